"""Headwater: event-driven microservices with CQRS and event sourcing."""

__version__ = "0.1.0"
