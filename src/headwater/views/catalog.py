"""Which generations and tables there are, and what becomes of them: decided here for all stores.

A store reads its `Catalog` (some dozens of rows), asks it, and carries out the `Changes`. Whoever
changes something keeps others from doing so meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headwater.errors import ConfigurationError
from headwater.views.api import Generation
from headwater.views.checks import check_active, check_droppable, check_shape, missing
from headwater.views.model import ReadModel, model_form, model_name


class Shape(msgspec.Struct, frozen=True):
    """A table: of which view and generation, with which key and indexes, filled by whom.

    A `SqlTable` has no key, and what stands for its declaration instead of indexes. The processor
    is empty for views that are nobody's.
    """

    name: str
    generation: int
    columns: tuple[str, ...]
    processor: str = ""

    @property
    def is_sql(self) -> bool:
        """Whether it is a `SqlTable`."""
        return not self.columns[0]


class Changes(msgspec.Struct):
    """What a store is to do, in this order, in one transaction.

    Attributes:
        create: tables to make.
        drop: tables to remove, by view and generation.
        own: tables that are a processor's from now on.
        ended: generations of the processor whose segments go, and what is known of them.
        put: what is known of generations from now on.
        last: no later generation of the processor gets this number or a smaller one; 0: as before.
    """

    create: list[tuple[ReadModel, Shape]] = []
    drop: list[Shape] = []
    own: list[Shape] = []
    ended: list[int] = []
    put: list[Generation] = []
    last: int = 0

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.create or self.drop or self.own or self.ended or self.put or self.last)


class Catalog:
    """What a store knows of generations and tables."""

    def __init__(
        self,
        generations: Iterable[Generation] = (),
        shapes: Iterable[Shape] = (),
        *,
        last: Mapping[str, int] | None = None,
        segments: Iterable[tuple[str, int]] = (),
    ) -> None:
        """Take what is stored.

        Args:
            generations: what is known of generations.
            shapes: the tables.
            last: by processor the highest number that was dropped for good.
            segments: of which processors and generations there are segments.
        """
        self.generations = {(g.processor, g.number): g for g in generations}
        self.shapes = {_key(s.name, s.generation): s for s in shapes}
        self.last = last or {}
        self.segments = set(segments)

    # questions --------------------------------------------------------------------------------

    def of(self, processor: str, code: str = "") -> list[Generation]:
        """Return the generations of a processor, in order: of a code if it has any, else all."""
        found = [g for key, g in sorted(self.generations.items()) if key[0] == processor]
        return [g for g in found if code and g.code == code] or found

    def active(self, processor: str, code: str = "") -> int:
        """See `ViewStore.generation`."""
        return active_of(self.of(processor, code))

    def active_view(self, name: str) -> int:
        """Return the generation of a view that who does not say which sees."""
        owned = [s.generation for s in self.shapes.values() if s.name == name and s.processor]
        return self._activated(name) or min(owned, default=1)

    def _activated(self, name: str) -> int:
        tables = [s for s in self.shapes.values() if s.name == name]
        complete = [s.generation for s in tables if self._is_complete(s)]
        return max(complete, default=0)

    def is_owned(self, name: str) -> bool:
        """Whether a view is a processor's, so that other generations may become active."""
        return any(s.processor for s in self.shapes.values() if s.name == name)

    def is_dropped(self, processor: str, generation: int) -> bool:
        """Whether there was such a generation, which must not be made again."""
        if (processor, generation) in self.generations:
            return False
        later = [g for g in self.of(processor) if g.complete and g.number > generation]
        return bool(later) or generation <= self.last.get(processor, 0)

    def _is_complete(self, shape: Shape) -> bool:
        found = self.generations.get((shape.processor, shape.generation))
        return found is not None and found.complete

    def _was(self, shape: Shape, names: set[str]) -> bool:
        """Whether an earlier release has made a table for a processor with views of these names."""
        return not shape.processor and shape.name in names

    def _shape(self, name: str, generation: int) -> Shape | None:
        return self.shapes.get(_key(name, generation))

    # decisions --------------------------------------------------------------------------------

    def ensure(self, views: Sequence[ReadModel], generation: int | None, processor: str) -> Changes:
        """See `ViewStore.ensure`.

        Raises:
            ConfigurationError: one is there in another form.
        """
        changes = Changes()
        for view in views:
            name, columns = model_name(view), model_form(view)
            now = self._activated(name)
            chosen = generation or now or self.active(processor)
            if self._is_gone(processor, chosen, now):
                continue
            stored = self._shape(name, chosen)
            wanted = Shape(name, chosen, columns, processor)
            form = None if stored is None else (stored.name, stored.columns)
            check_shape(name, columns, form, generation=chosen)
            if stored is None:
                changes.create.append((view, wanted))
                if generation is None:
                    changes.drop += self._unowned(name, before=chosen)
            elif processor and generation and not stored.processor:
                changes.own.append(msgspec.structs.replace(stored, processor=processor))
        return changes

    def _is_gone(self, processor: str, generation: int, now: int) -> bool:
        return self.is_dropped(processor, generation) if processor else generation < now

    def _unowned(self, name: str, *, before: int) -> list[Shape]:
        return [
            s
            for s in self.shapes.values()
            if s.name == name and not s.processor and s.generation < before
        ]

    def settle(
        self, processor: str, code: str, views: Sequence[ReadModel], *, now: float
    ) -> tuple[Changes, int]:
        """See `ViewStore.settle_generation`."""
        mine = [g for g in self.of(processor) if g.code == code]
        if mine:
            return Changes(), active_of(mine)
        nobodys = [g for g in self.of(processor) if not g.code] or self._begun(processor)
        left = next((g for g in nobodys if g.number == active_of(nobodys)), None)
        if left is not None:
            found = [self._shape(model_name(view), left.number) for view in views]
            if all(_fits(view, s, processor) for view, s in zip(views, found, strict=True)):
                settled = msgspec.structs.replace(left, code=code, used=now)
                own = [msgspec.structs.replace(s, processor=processor) for s in found if s]
                return Changes(put=[settled], own=own), left.number
        return self._new(processor, code, views, now=now)

    def next(
        self, processor: str, code: str, views: Sequence[ReadModel], *, after: int, now: float
    ) -> tuple[Changes, int]:
        """See `ViewStore.next_generation`."""
        later = [g.number for g in self.of(processor) if g.code == code and g.number > after]
        if later:
            return Changes(), max(later)
        return self._new(processor, code, views, now=now)

    def _new(
        self, processor: str, code: str, views: Sequence[ReadModel], *, now: float
    ) -> tuple[Changes, int]:
        names = {model_name(view).casefold() for view in views}
        taken = [g.number for g in self.of(processor)]
        taken += [number for name, number in self.segments if name == processor]
        taken += [s.generation for s in self.shapes.values() if s.name.casefold() in names]
        number = 1 + max([self.last.get(processor, 0), *taken])
        made = Generation(processor, number, code, used=now)
        return Changes(put=[*self._begun(processor), made]), number

    def _begun(self, processor: str) -> list[Generation]:
        """Return the first generation of a processor that was begun without a word about it."""
        if self.of(processor) or (processor, 1) not in self.segments:
            return []
        return [Generation(processor, 1, complete=True)]

    def activate(
        self, processor: str, generation: int, views: Sequence[ReadModel], *, code: str, now: float
    ) -> Changes:
        """See `ViewStore.activate`.

        Raises:
            ConfigurationError: a table of the generation is missing.
            InvalidInput: a later one is active.
        """
        known = self.generations.get((processor, generation)) or Generation(
            processor, generation, code, used=now
        )
        there = (processor, generation) in self.generations
        mine = [g for g in self.of(processor) if g.code == known.code or not there]
        check_active(processor, generation, [1, *(g.number for g in mine if g.complete)])
        shapes = {name: self._shape(name, generation) for name in map(model_name, views)}
        absent = next((name for name, shape in shapes.items() if shape is None), None)
        if absent is not None:
            raise missing(absent, generation)
        own = [
            msgspec.structs.replace(shape, processor=processor)
            for shape in shapes.values()
            if shape is not None and shape.processor != processor
        ]
        others = {g.number for g in self.of(processor) if g.code != known.code}
        older = {g.number for g in mine} | {n for name, n in self.segments if name == processor}
        older = {number for number in older if number < generation} - others
        drop = [s for s in self.shapes.values() if s.processor == processor]
        drop = [s for s in drop if s.generation in older]
        for name in shapes:
            unowned = self._unowned(name, before=generation)
            drop += [s for s in unowned if s.generation not in others]
        done = msgspec.structs.replace(known, complete=True, used=now)
        return Changes(own=own, drop=drop, ended=sorted(older), put=[done])

    def drop(self, processor: str, generation: int, views: Sequence[ReadModel]) -> Changes:
        """See `ViewStore.drop_generation`, if nobody holds a segment.

        Raises:
            InvalidInput: it is active.
        """
        known = self.generations.get((processor, generation))
        active = self.active(processor) if known is None else self.active(processor, known.code)
        check_droppable(processor, generation, [active])
        names = {model_name(view) for view in views}
        return Changes(
            drop=[
                s
                for s in self.shapes.values()
                if s.generation == generation
                and (s.processor == processor or (s.name in names and not s.processor))
            ],
            ended=[generation],
        )

    def unused(self, processor: str, code: str, *, before: float) -> list[int]:
        """Return the generations of other codes that nobody has used since a time."""
        every = self.of(processor)
        if code and not any(g.complete for g in every if g.code == code):
            return []
        return [g.number for g in every if (not code or g.code != code) and g.used < before]

    def drop_for_good(self, processor: str, generation: int) -> Changes:
        """Return what removes a generation so that nobody gets its number again."""
        names = {s.name for s in self.shapes.values() if s.processor == processor}
        mine = [s for s in self.shapes.values() if s.generation == generation]
        return Changes(
            drop=[s for s in mine if s.processor == processor or self._was(s, names)],
            ended=[generation],
            last=max(self.last.get(processor, 0), generation),
        )


def active_of(generations: Sequence[Generation]) -> int:
    """Return the active one of some generations: the newest complete, else the oldest, else 1."""
    complete = [g.number for g in generations if g.complete]
    return max(complete) if complete else min((g.number for g in generations), default=1)


def _fits(model: ReadModel, shape: Shape | None, processor: str) -> bool:
    if shape is None or shape.processor not in ("", processor):
        return False
    try:
        stored = (shape.name, shape.columns)
        check_shape(model_name(model), model_form(model), stored, generation=shape.generation)
    except ConfigurationError:
        return False
    return True


def _key(name: str, generation: int) -> tuple[str, int]:
    return name.casefold(), generation  # names that differ by case only would share a table
