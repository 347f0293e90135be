"""Triplets: what calibration data is made of, and how they are written."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import overload

from gaprune.errors import ConfigError, DataError, OutputError
from gaprune.models.prompts import Role
from gaprune.util.files import check_file, write_text


@dataclass(frozen=True, slots=True)
class Triplet:
    """A query, a passage that answers it, and passages that do not answer it.

    Args:
        query: The text searched with.
        positive: A passage that answers the query.
        negatives: Passages that do not answer it; empty for a pair that relies on in-batch negatives.
        source: The place it was read from, ``file:line``, for error messages.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    source: str = ""

    @property
    def passages(self) -> tuple[str, ...]:
        """The positive, then the negatives."""
        return (self.positive, *self.negatives)


class Triplets(Sequence[Triplet]):
    """An immutable list of triplets with a name and a content fingerprint.

    Args:
        items: The triplets; at least one.
        name: Their name in reports, usually the name of the file.

    Raises:
        DataError: If there is no triplet, or a text is empty.
    """

    def __init__(self, items: Sequence[Triplet], name: str) -> None:
        if len(items) == 0:  # what is no list may have no truth, such as a DataFrame
            raise DataError("holds no triplet.", "Give a file with at least one triplet.", source=name)
        for number, item in enumerate(items, start=1):
            if not isinstance(item, Triplet):
                raise DataError(
                    f"item {number} is a {type(item).__name__}, not a Triplet.",
                    "Give gaprune.Triplet objects, or name a file.",
                    source=name,
                )
            if not all(text.strip() for text in (item.query, *item.passages)):
                raise DataError(
                    "has an empty text.", "Fill all texts of every triplet.", source=item.source or f"{name}:{number}"
                )
        self._items = tuple(items)
        self.name = name

    @classmethod
    def of(cls, items: Sequence[Triplet], name: str) -> Triplets:
        """Return a list of triplets as :class:`Triplets` of that name; an instance is returned unchanged."""
        return items if isinstance(items, Triplets) else cls(items, name)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Triplet: ...
    @overload
    def __getitem__(self, index: slice) -> Triplets: ...
    def __getitem__(self, index: int | slice) -> Triplet | Triplets:
        return Triplets(self._items[index], self.name) if isinstance(index, slice) else self._items[index]

    def __iter__(self) -> Iterator[Triplet]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"Triplets({self.name!r}, {len(self)} triplets)"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the texts in order (without the name and the sources)."""
        digest = hashlib.sha256()
        for item in self._items:
            digest.update(json.dumps([item.query, *item.passages], ensure_ascii=False).encode())
        return digest.hexdigest()

    def roles(self) -> Iterator[tuple[Role, str]]:
        """Yield every text with its role."""
        for item in self._items:
            yield "query", item.query
            yield from (("passage", text) for text in item.passages)

    @property
    def have_negatives(self) -> bool:
        """Whether every triplet has at least one explicit negative."""
        return all(item.negatives for item in self._items)

    def take(self, count: int | None, *, seed: int) -> Triplets:
        """Return ``count`` triplets drawn without replacement (all of them for ``None``), in the order of the draw.

        Raises:
            ConfigError: If ``count`` is not from one to the number of triplets.
        """
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise ConfigError(
                f"triplets: {count} asked for, {self.name} holds {len(self)}.",
                f"Give --triplets {len(self)} (triplets={len(self)}) or fewer, also if a recipe asks for {count}.",
            )
        return Triplets(random.Random(seed).sample(self._items, count), self.name)  # noqa: S311 (no secret)


def write_triplets(
    triplets: Triplets,
    path: str | Path,
    *,
    overwrite: bool = False,
    notes: Sequence[Mapping[str, str]] | None = None,
) -> Path:
    """Write triplets as JSONL; the file appears under its name only when it is complete.

    Args:
        triplets: The triplets to write.
        path: A file that ends in ``.jsonl``; missing folders are created.
        overwrite: Whether an existing file may be replaced.
        notes: Further columns for each triplet; they are ignored when the file is read.

    Returns:
        The file.

    Raises:
        OutputError: If the file exists already, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".jsonl":
        raise OutputError(f"{path}: triplets are written as JSONL.", "Give a name that ends in .jsonl.")
    path = check_file(path, overwrite=overwrite)
    return write_text(path, "".join(map(_line, triplets, repeat({}) if notes is None else notes)))


def _line(triplet: Triplet, note: Mapping[str, str]) -> str:
    fields: dict[str, object] = {"query": triplet.query, "positive": triplet.positive}
    if len(triplet.negatives) == 1:
        fields["negative"] = triplet.negatives[0]
    elif triplet.negatives:
        fields["negatives"] = list(triplet.negatives)
    return json.dumps(fields | dict(note), ensure_ascii=False) + "\n"
