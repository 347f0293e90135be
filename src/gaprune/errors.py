"""Errors a user can act on: each says what is wrong, where, and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import ClassVar


class GapruneError(Exception):
    """Base of every error that is the input's, not the program's.

    Args:
        problem: What is wrong, naming the file, line, layer or option.
        remedy: What the user can do about it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy


class ConfigError(GapruneError):
    """An option, a recipe file or a combination of options is wrong."""


class TimeTooShortError(ConfigError):
    """A budget of time is not enough; ``least_minutes`` would be."""

    def __init__(self, problem: str, remedy: str, *, least_minutes: float) -> None:
        super().__init__(problem, remedy)
        self.least_minutes = least_minutes


class DataError(GapruneError):
    """A data file cannot be used; the text starts with ``file:line`` where there is one.

    ``row`` is the row that a spreadsheet shows, if it is another number than the line.
    """

    def __init__(
        self,
        problem: str,
        remedy: str,
        *,
        source: str | Path | None = None,
        line: int | None = None,
        row: int | None = None,
    ) -> None:
        where = "" if source is None else f"{source}: " if line is None else f"{source}:{line}: "
        where += "" if row is None or row == line else f"row {row}: "
        super().__init__(f"{where}{problem}", remedy)
        self.source = source
        self.line = line


class EmptyTextError(DataError):
    """A record lacks a text."""


class ModelError(GapruneError):
    """A model cannot be loaded, or its architecture cannot be handled."""


class SelectionError(GapruneError):
    """A target pattern matches no layer."""


class MeasurementError(GapruneError):
    """A measurement failed: a non-finite loss or gradient, or a layer that got none."""


class OutputError(GapruneError):
    """An output cannot be written where it was asked for."""


class MissingExtraError(GapruneError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the optional dependencies of the extra '{extra}', which are not installed.",
            f"Install them with: pip install 'gaprune[{extra}]' (in a clone: '.[{extra}]')",
        )
        self.extra = extra


def require_extra(feature: str, extra: str, *modules: str) -> None:
    """Check that the modules of an extra can be imported; call it before the expensive work.

    Raises:
        MissingExtraError: If one cannot; ``feature`` is what needs them.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise MissingExtraError(feature, extra) from error


@contextmanager
def continued_by(how: str, *, folder: str | Path) -> Iterator[None]:
    """Note in an interrupt inside the block how the run continues from ``folder``, if that exists by then."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.__notes__ = [how] if Path(folder).exists() else []
        raise


def suggest(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """Return ``" Did you mean 'x' or 'y'?"`` for near names of ``word``, or an empty string."""
    near = get_close_matches(word, list(known), n=3, cutoff=likeness)
    return f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


def together(problems: Iterable[str]) -> str:
    """Return several problems of one thing, each a sentence without a subject or capital, as one text."""
    first, *others = dict.fromkeys(problems)
    return " ".join(
        [first, *(f"It {each}" if each.startswith("has ") else each[0].upper() + each[1:] for each in others)]
    )
