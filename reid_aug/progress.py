"""Progress bars on the terminal for the callbacks of the stages."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


class Bars:
    """One bar a stage with its count, time to go and a note such as the loss; a context manager, called by stages.

    Where the output is not a terminal, a line is printed each tenth of a stage instead.
    """

    def __init__(self):
        columns = [
            TextColumn("{task.description:<15}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        ]
        live = Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())
        self._live = live if console.is_terminal else None
        self._tasks: dict[str, int] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Bars:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *failure) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        if self._live is None:
            self._print(stage, done, total, note)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._live.add_task(stage, total=total, note=note)
        task = self._tasks[stage]
        self._live.update(task, completed=done, total=total, note=note)
        if done >= total:
            self._live.remove_task(self._tasks.pop(stage))

    def _print(self, stage: str, done: int, total: int, note: str) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth != self._tenths.get(stage, 0):
            self._tenths[stage] = tenth % 10
            print(f"{stage}: {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)
