# SPDX-License-Identifier: Apache-2.0
"""Progress bars on standard error for everything that takes longer than a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from experiments.interrupt import check

Advance = Callable[..., None]


@contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Advance]:
    """Show a bar while the block runs; yield advance(completed=..., total=..., note="...")."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(completed: int, total: int | None = None, note: str | None = None) -> None:
            check()
            given = {"total": total, "note": note}
            progress.update(
                task,
                completed=completed,
                **{key: value for key, value in given.items() if value is not None},
            )

        try:
            yield advance
        except Exception:
            # Any error ends in a line of its own: no bar beside it, neither on a terminal nor in a
            # file. Not so Ctrl-C, after which the bar tells how far the stage came.
            progress.live.transient = True
            progress.console.quiet = not progress.console.is_terminal
            raise
        if progress.tasks[task].total is None:  # nothing to do: kept from an earlier run
            advance(1, total=1, note="kept")
