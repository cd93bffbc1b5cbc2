"""How far a command is that goes through a log."""

import contextlib
from collections.abc import Iterator

from headwater.eventstore.copy import Progress


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show how far it is, on a terminal; give what is to be told of it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} events/s")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        *(BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()),
    )
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=None)
        started = False

        def progress(position: int, head: int) -> None:
            nonlocal started
            if not started:  # what was there before says nothing about the speed
                started = True
                bar.reset(task, total=head, completed=position)
            else:
                bar.update(task, completed=position)

        yield progress
