"""Event buses against the shared suite."""
