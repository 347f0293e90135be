"""Reading data sets from the Hugging Face hub."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gaprune.data.records import Record
from gaprune.errors import DataError
from gaprune.util.progress import is_shown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_hub"]


@contextmanager
def _download_bars() -> Iterator[None]:
    """Show the download bars of ``datasets`` only where ours are shown."""
    import datasets

    hide = not is_shown() and datasets.is_progress_bar_enabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()


def read_hub(name: str, *, subset: str | None, split: str | None) -> Iterator[Record]:
    """Yield the rows of a data set on the hub (or in the local hub cache).

    Args:
        name: Hub id, ``owner/name``.
        subset: Configuration of the data set; its default where none is given.
        split: Split, also a slice of one (``train[:10000]``); ``train`` where none is given.

    Raises:
        DataError: If the hub cannot be reached or has no such data set, subset or split.
    """
    import datasets

    split = split or "train"
    try:
        with _download_bars():
            rows = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        part = f" (subset {subset!r}, split {split!r})" if subset else f" (split {split!r})"
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"no such file, and the data set{part} cannot be read from the hub: {reason}.",
            "Check its name, subset and split while the hub can be reached, or supply a local file with --domain FILE "
            "or --general FILE (domain=... or general=... in Python).",
            source=name,
        ) from error
    for number, fields in enumerate(rows, start=1):
        yield Record(name, number, fields, is_line=False)
