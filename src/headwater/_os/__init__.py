"""What the machine lends to a process, and how much of it is left."""

from headwater._os.limits import Shortage, raise_descriptors, shortages, spare_watchers

__all__ = ["Shortage", "raise_descriptors", "shortages", "spare_watchers"]
