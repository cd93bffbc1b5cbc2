"""View stores against the shared suite."""
