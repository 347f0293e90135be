"""How far the work is, on stderr: nested bars on a terminal, elsewhere a plain line every half minute."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")

_EVERY = 30.0
"""Seconds between two plain lines; shorter stages print none."""

_shown: ContextVar[bool] = ContextVar("gaprune_progress_shown", default=True)


def is_shown() -> bool:
    """Return whether progress is shown in this context."""
    return _shown.get()


_reworded: ContextVar[Callable[[str], str]] = ContextVar("gaprune_progress_reworded", default=str)


@contextmanager
def rewording(reword: Callable[[str], str]) -> Iterator[None]:
    """Say every remark inside the block in other words."""
    token = _reworded.set(reword)
    try:
        yield
    finally:
        _reworded.reset(token)


@contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Hide progress inside the block (when ``silent``)."""
    token = _shown.set(not silent)
    try:
        yield
    finally:
        _shown.reset(token)


class Stage:
    """A stage of the work that takes a while; it may be inside another stage."""

    def __init__(self, description: str, total: float | None, began: float, changed: Callable[[], None]) -> None:
        self.description, self.total, self.began = description, total, began
        self.completed = 0.0
        self.bar: TaskID | None = None
        self._changed = changed

    def update(self, completed: float | None = None, description: str | None = None) -> None:
        """Say how many steps are done, or what the stage is called now."""
        self.completed = self.completed if completed is None else completed
        self.description = description or self.description
        self._changed()


class Display:
    """Stages within stages, shown together: there is one live display, whatever is nested in what."""

    def __init__(
        self,
        open_console: Callable[[], Console] = lambda: Console(file=sys.stderr),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_console, self._clock = open_console, clock
        self._console: Console | None = None
        self._stages: list[Stage] = []
        self._bars: Progress | None = None
        self._told = 0.0
        self._has_told = False
        self._ended = threading.Event()

    @contextmanager
    def stage(self, description: str, total: float | None) -> Iterator[Stage]:
        """Show a stage while the block runs."""
        if not self._stages:
            self._start()
        opened = Stage(description, total, self._clock(), self._changed)
        if self._bars is not None:
            opened.bar = self._bars.add_task(self._indented(description, len(self._stages)), total=total)
        self._stages.append(opened)
        ended = False
        try:
            yield opened
            ended = True
        finally:
            self._stages.remove(opened)
            self._close(opened, say_so=ended)

    def say(self, text: str) -> None:
        """Print a remark above the bars."""
        console = self._console if self._stages and self._console is not None else self._open_console()
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _start(self) -> None:
        self._console = self._open_console()
        self._told, self._has_told = self._clock(), False
        if self._console.is_terminal or self._console.is_jupyter:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bars.start()
            return
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._tell_while_silent, args=(self._ended,), daemon=True)
        self._teller.start()

    def _tell_while_silent(self, ended: threading.Event) -> None:
        """Print lines while a single step takes longer than the time between two of them."""
        while not ended.wait(_EVERY / 10):
            self._changed()

    def _close(self, closed: Stage, *, say_so: bool) -> None:
        if self._bars is not None and closed.bar is not None and self._stages:
            self._bars.remove_task(closed.bar)
        if self._stages:
            return
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            return
        self._ended.set()
        self._teller.join()  # so that it writes nothing later
        if self._has_told and say_so:
            self.say(f"{closed.description}: done after {duration(self._clock() - closed.began)}")

    def _changed(self) -> None:
        if self._bars is not None:
            for depth, each in enumerate(self._stages):
                if each.bar is not None:
                    described = self._indented(each.description, depth)
                    self._bars.update(each.bar, completed=each.completed, description=described)
        elif (stages := list(self._stages)) and self._clock() - self._told >= _EVERY:
            self._told, self._has_told = self._clock(), True
            self.say(self._line(stages))

    def _line(self, stages: list[Stage]) -> str:
        """Return what runs, how far it is, and the time left of the outermost stage whose steps are counted."""
        parts = [
            each.description + (f": {each.completed:g} of {each.total:g}" if each.total else "") for each in stages
        ]
        passed = self._clock() - stages[0].began
        so_far = f"{duration(passed)} so far"
        counted = next((number for number, each in enumerate(stages) if each.total), None)
        done = 0.0 if counted is None else _share(stages[counted:])
        if counted is None or not 0 < done < 1:
            left = so_far
        else:
            own = self._clock() - stages[counted].began
            left = f"about {duration(own * (1 - done) / done)} left"
            left += f" of this step, {so_far}" if counted else ""
        return f"{', '.join(parts)}; {left}"

    @staticmethod
    def _indented(description: str, depth: int) -> str:
        return "  " * depth + description


def _share(stages: list[Stage]) -> float:
    """Return which share of the outermost stage is done, with what is done of the step that it is at."""
    if not stages or not stages[0].total:
        return 0.0
    first, *inner = stages
    return min((first.completed + _share(inner)) / (first.total or 1), 1.0)


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


_display = Display()


@contextmanager
def stage(description: str, total: float | None = None) -> Iterator[Stage]:
    """Show a stage of ``total`` steps while the block runs, which updates it."""
    if not is_shown():
        yield Stage(description, total, 0.0, lambda: None)
        return
    with _display.stage(description, total) as opened:
        yield opened


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` while the progress of ``description`` is shown."""
    count = len(items) if total is None and isinstance(items, Sized) else total
    with stage(description, count) as opened:
        for number, item in enumerate(items, start=1):
            yield item
            opened.update(number)


def say(text: str) -> None:
    """Print a remark on stderr, unless inside :func:`quiet`."""
    if is_shown():
        _display.say(_reworded.get()(text))
