"""Progress bars on stderr with a time left, switched off together by ``quiet``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["bars", "is_shown", "quiet", "say", "track"]

Item = TypeVar("Item")

_shown: ContextVar[bool] = ContextVar("gaprune_progress_shown", default=True)


def is_shown() -> bool:
    """Return whether progress bars are shown in this context."""
    return _shown.get()


@contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Hide progress bars inside the block (when ``silent``)."""
    token = _shown.set(not silent)
    try:
        yield
    finally:
        _shown.reset(token)


def bars() -> Progress:
    """Return a rich progress display on stderr, disabled inside :func:`quiet`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),  # this one, also where others are silenced meanwhile
        disable=not is_shown(),
    )


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` while a progress bar named ``description`` advances.

    Args:
        items: What to go through.
        description: A few words shown before the bar.
        total: Number of items where ``items`` has no length.
    """
    with bars() as display:
        yield from display.track(items, total=total, description=description)


def say(text: str) -> None:
    """Print a remark on stderr, unless inside :func:`quiet`."""
    if is_shown():
        Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
