"""The collector of reference cycles, tuned for a process that serves.

Almost all that a request makes is freed with the last reference to it. What is left for the
collector is little, and what it looks through to find it is much: every module, class and schema,
for 40 ms at a time in which nothing else happens.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

YOUNG_MAX: Final = 10_000
"""How many more objects may be made than freed before the young ones are looked through."""


class Collector:
    """What is done with the collector of this process, by all that serve in it."""

    def __init__(self) -> None:
        """Do nothing yet."""
        self._serving = 0
        self._thresholds = gc.get_threshold()
        self._frozen = 0

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Leave alone what there is by now, and look through the rest less often, for a block.

        Blocks may overlap. With the end of the last one all is as it was before the first.
        """
        if not self._serving:
            self._thresholds = gc.get_threshold()
            self._frozen = gc.get_freeze_count()
            young, *older = self._thresholds
            if 0 < young < YOUNG_MAX:  # 0: somebody wants no collections at all
                gc.set_threshold(YOUNG_MAX, *older)
        self._serving += 1
        gc.freeze()
        try:
            yield
        finally:
            self._serving -= 1
            if not self._serving:
                gc.set_threshold(*self._thresholds)
                if not self._frozen:  # else somebody else wants it so, as a fork server does
                    gc.unfreeze()


COLLECTOR: Final = Collector()
"""That of this process."""
