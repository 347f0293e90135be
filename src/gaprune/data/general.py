"""General calibration triplets, and the public data set used by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.data.read import read_triplets
from gaprune.data.readers.hub import read_hub
from gaprune.data.readers.records import parse_records
from gaprune.data.samples import sample_triplets
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT_GENERAL = "sentence-transformers/all-nli"
"""Public general data on the hub: AllNLI triplets (SNLI and MultiNLI)."""

_SUBSET = "triplet"


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
    """Read general triplets from ``source``, or :data:`DEFAULT_GENERAL` from the hub for ``None``.

    Args:
        source: As for :func:`read_triplets`, or ``None`` for the default.
        columns: As for :func:`read_triplets`; only with a source.
        subset: As for :func:`read_triplets`; only with a source.
        split: As for :func:`read_triplets`; for the default it may be a slice such as ``train[:20000]``.
        require_negatives: Whether every triplet must have a negative of its own.
        most: Draw at most this many triplets of the default, unless ``split`` is given.
        seed: Seed of that draw.

    Raises:
        ConfigError: If ``columns`` or ``subset`` is given without a source.
        DataError: If the source cannot be read; for the default the message names alternatives.
    """
    if source is not None:
        return read_triplets(source, columns=columns, subset=subset, split=split, require_negatives=require_negatives)
    for option, value in (("columns", columns), ("subset", subset)):
        if value is not None:
            raise ConfigError(
                f"{option}: given for general data, but no general data are named.",
                f"Name them with --general (general=...), or leave {option} out to use {DEFAULT_GENERAL}.",
            )
    most = most if split is None else None
    try:
        records = read_hub(DEFAULT_GENERAL, subset=_SUBSET, split=split, most=most, seed=seed)
        return Triplets(list(parse_records(records, None, require_negatives=require_negatives)), DEFAULT_GENERAL)
    except DataError as error:
        raise DataError(
            f"the default general data cannot be used: {error.problem}",
            f"Supply general triplets with --general FILE (general=... in Python). The small sample set of this "
            f"package is enough for a first try: --general {sample_triplets('general')}",
            source=DEFAULT_GENERAL,
        ) from error
