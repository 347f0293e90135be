"""The general side of the calibration data, and the public default for it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from gaprune.data.hub import read_hub
from gaprune.data.parse import parse_records
from gaprune.data.read import read_triplets
from gaprune.data.samples import sample_triplets
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["DEFAULT_GENERAL", "HubSource", "read_general"]


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set on the hub, and where its triplets are."""

    name: str
    subset: str | None
    split: str
    columns: Mapping[str, str]


DEFAULT_GENERAL = HubSource(
    name="sentence-transformers/all-nli",
    subset="triplet",
    split="train",
    columns=MappingProxyType({"query": "anchor", "positive": "positive", "negative": "negative"}),
)
"""Public data for the general side: AllNLI triplets (SNLI and MultiNLI)."""


def read_general(
    source: str | Path | None,
    *,
    columns: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str | None = None,
    require_negatives: bool = False,
    most: int | None = None,
    seed: int = 0,
) -> Triplets:
    """Read general triplets from ``source``, or :data:`DEFAULT_GENERAL` from the hub where none is given.

    Args:
        source: As for :func:`read_triplets`, or ``None`` for the default.
        columns: As for :func:`read_triplets`; only with a source.
        subset: As for :func:`read_triplets`; only with a source.
        split: As for :func:`read_triplets`; with the default it may be a slice of it, ``train[:20000]``.
        require_negatives: Whether every triplet must have a negative of its own.
        most: How many to draw of the default at the most, where ``split`` is not given: it is large.
        seed: Of that draw.

    Raises:
        ConfigError: If ``columns`` or ``subset`` is given without a source.
        DataError: If the source cannot be read; for the default the text says how to supply another.
    """
    if source is not None:
        return read_triplets(source, columns=columns, subset=subset, split=split, require_negatives=require_negatives)
    default = DEFAULT_GENERAL
    for option, value in (("columns", columns), ("subset", subset)):
        if value is not None:
            raise ConfigError(
                f"{option}: given for the general data, but no general data is named.",
                f"Name it with --general (general=...), or leave {option} out to use {default.name}.",
            )
    try:
        records = read_hub(default.name, subset=default.subset, split=split or default.split)
        items = list(parse_records(records, default.columns, require_negatives=require_negatives))
        found = Triplets(items, default.name)
    except DataError as error:
        raise DataError(
            f"the default general data cannot be used: {error.problem}",
            f"Supply general triplets with --general FILE (general=... in Python). To try things out, the small "
            f"sample set of this package will do: --general {sample_triplets('general')}",
            source=default.name,
        ) from error
    return found if most is None or split is not None else found.take(min(most, len(found)), seed=seed)
