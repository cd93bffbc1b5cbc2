"""Dead letters: what could not be handled, and what to do with it."""

from collections.abc import AsyncIterator

import msgspec

from headwater.errors import ConfigurationError
from headwater.operations.processors import Found, Opened, one
from headwater.processing import DeadLetter, Retried


class Letters(msgspec.Struct, frozen=True):
    """The letters of one processor, in order within each sequence.

    ``now`` is the time of its store, seconds since 1970 UTC, by which letters are due.
    """

    service: str
    processor: str
    letters: tuple[DeadLetter, ...]
    now: float

    def sequences(self) -> dict[str, list[DeadLetter]]:
        """Return them by sequence; the first of each is the one that failed."""
        found: dict[str, list[DeadLetter]] = {}
        for letter in self.letters:
            found.setdefault(letter.sequence, []).append(letter)
        return found


async def letters(opened: Opened, processor: str = "") -> list[Letters]:
    """Return the letters of a processor, or of all: those that are gone, too.

    Raises:
        ConfigurationError: no processor has this name, or several have.
        StoreUnavailable: a store is away.
    """
    entries = [one(opened, processor)] if processor else [*opened.processors, *opened.gone]
    return [await _letters(entry) for entry in entries]


async def _letters(entry: Found) -> Letters:
    found = tuple([letter async for letter in entry.admin.letters()])
    return Letters(entry.service, entry.name, found, await entry.views.now())


async def letters_of(opened: Opened, processor: str, sequence: str) -> AsyncIterator[DeadLetter]:
    """Yield the letters of one sequence, in order.

    Raises:
        ConfigurationError: there are none, or no processor has this name.
        StoreUnavailable: a store is away.
    """
    found = False
    async for letter in one(opened, processor).admin.letters(sequence):
        found = True
        yield letter
    if not found:
        raise _none(processor, sequence)


async def sequences_of(opened: Opened, processor: str, sequence: str = "") -> list[str]:
    """Return the sequences of a processor that have letters: all, or the one that is named.

    Raises:
        ConfigurationError: the one has none, or no processor has this name.
        StoreUnavailable: a store is away.
    """
    admin = one(opened, processor).admin
    found = list({letter.sequence: None async for letter in admin.letters(sequence)})
    if sequence and not found:
        raise _none(processor, sequence)
    return found


class RetriedSequence(msgspec.Struct, frozen=True):
    """A sequence, and what came of handling its letters again."""

    sequence: str
    result: Retried


async def retry(
    opened: Opened, processor: str, sequences: list[str]
) -> AsyncIterator[RetriedSequence]:
    """Handle the letters of sequences again, in order, and yield what came of each.

    Raises:
        ConfigurationError: no processor has this name, or several have.
        StoreUnavailable: a store is away; what is done is done.
    """
    admin = one(opened, processor).admin
    for sequence in sequences:
        yield RetriedSequence(sequence, await admin.retry(sequence))


async def drop(opened: Opened, processor: str, sequence: str, *, letter: str = "") -> int:
    """Remove the letters of a sequence, or one of them, for good; return how many.

    Raises:
        ConfigurationError: there are none, or no processor has this name.
        StoreUnavailable: a store is away.
    """
    dropped = await one(opened, processor).admin.drop(sequence, letter=letter)
    if not dropped:
        raise _none(processor, sequence)
    return dropped


def _none(processor: str, sequence: str) -> ConfigurationError:
    return ConfigurationError(
        subject=f"sequence {sequence!r} of {processor!r}",
        reason="has no dead letters: `headwater dead-letters list` shows those that have",
    )
