"""What the SQL backends share: connections on threads, migrations, wake-ups between processes.

Technology files import the modules; nothing is imported here, so that a driver loads only when
it is used.
"""

__all__: list[str] = []
