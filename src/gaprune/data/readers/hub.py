"""Reading data sets from the Hugging Face hub."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gaprune.errors import DataError
from gaprune.util.hub import cache_if_unreachable
from gaprune.util.json_lines import Record
from gaprune.util.progress import is_shown

SAVED = ("dataset_dict.json", "state.json")
"""Files that tell a folder written by ``save_to_disk`` of ``datasets``."""


def read_hub(
    name: str, *, subset: str | None, split: str | None, most: int | None = None, seed: int = 0
) -> Iterator[Record]:
    """Yield the rows of a data set on the hub (or in the local cache of the hub).

    Args:
        name: Hub id, ``owner/name``.
        subset: Configuration of the data set; its default if ``None``.
        split: A split or a slice of one (``train[:10000]``); ``train`` if ``None``.
        most: Read at most this many rows, drawn at random without reading the others; all rows by default.
        seed: Seed of the draw.

    Raises:
        DataError: If the hub cannot be reached or does not have the data set, subset or split.
    """
    import datasets

    split = split or "train"
    try:
        with _download_bars(), cache_if_unreachable() as answers:
            rows = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        part = f" (subset {subset!r}, split {split!r})" if subset else f" (split {split!r})"
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        if not answers and isinstance(error, ConnectionError):
            reason = "it is not in the cache, and the hub cannot be reached"
        raise DataError(
            f"there is no such file, and the data set{part} cannot be read from the hub: {reason}.",
            "Check its name, subset and split while the hub can be reached, or supply a local file with --domain FILE "
            "or --general FILE (domain=... or general=... in Python).",
            source=name,
        ) from error
    indices: Sequence[int] = range(len(rows))
    if most is not None:
        indices = random.Random(seed).sample(indices, min(most, len(rows)))  # noqa: S311 (no secret)
        rows = rows.select(indices)
    for index, fields in zip(indices, rows, strict=True):
        yield Record(name, index + 1, fields, is_line=False)


def read_saved(folder: Path, *, split: str | None) -> Iterator[Record]:
    """Yield the rows of a data set that ``datasets`` saved to a folder; of several splits, of ``train`` or ``split``.

    Raises:
        DataError: If the folder cannot be read, or has no such split.
    """
    import datasets
    import pyarrow as pa  # type: ignore[import-untyped]

    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        remedy = "Save it again, or give the triplets as .jsonl."
        raise DataError(f"is not a data set that can be read: {reason}.", remedy, source=folder) from error
    splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
    rows = splits.get(split or "train") if split or len(splits) > 1 else next(iter(splits.values()))
    if rows is None:
        remedy = f"Name one of {', '.join(splits)} (split=...)."
        raise DataError(f"has no split {split or 'train'!r}.", remedy, source=folder)
    for number, fields in enumerate(rows, start=1):
        yield Record(folder, number, fields, is_line=False)


@contextmanager
def _download_bars() -> Iterator[None]:
    """Show the download bars of ``datasets`` only if ours are shown."""
    import datasets

    hide = not is_shown() and datasets.is_progress_bar_enabled()
    if hide:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            datasets.enable_progress_bars()
