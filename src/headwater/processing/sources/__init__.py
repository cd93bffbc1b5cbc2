"""What processors follow: event stores and event buses, and how far they have come."""
