"""What a process has from its operating system: signals, ports, files, and how much is left."""
