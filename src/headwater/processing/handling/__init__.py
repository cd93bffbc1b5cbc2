"""What a worker does with events, and what becomes of those that fail."""
