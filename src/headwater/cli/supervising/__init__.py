"""Running all processes of a system on one machine."""
