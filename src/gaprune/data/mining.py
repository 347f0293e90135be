"""Mining hard negatives for pairs that have no negative."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gaprune.data.triplets import Triplet, Triplets
from gaprune.data.words import normalise
from gaprune.errors import ConfigError, DataError
from gaprune.models.encode import encode_tensor
from gaprune.models.prompts import Prompts
from gaprune.util.threshold import largest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_NAMED = 5
"""Number of pairs named in an error."""

_QUERIES = 1024
"""Number of queries compared with all passages at a time."""


def mine_negatives(triplets: Triplets, model: SentenceTransformer, *, count: int, prompts: Prompts) -> Triplets:
    """Return ``triplets`` with ``count`` mined negatives for each one that has no negative.

    The negatives of a query are the most similar passages of the whole set, except the query itself and all its
    positives (a query may occur several times). Texts that differ only in case, spacing and punctuation count as one
    text. Existing negatives are kept.

    Returns:
        The same triplets in the same order; the same object if all had negatives.

    Raises:
        ConfigError: If ``count`` is below one.
        DataError: If the set holds too few passages for a pair.
    """
    if count < 1:
        raise ConfigError(f"negatives: {count} is below 1.", "Mine at least one negative per pair, or do not mine.")
    if triplets.have_negatives:
        return triplets
    spellings: dict[str, str] = {}

    def spelling(text: str) -> str:
        """Return the first spelling of ``text``, so that no variant of a positive is mined as a negative."""
        return spellings.setdefault(normalise(text), text)

    queries = [spelling(item.query) for item in triplets]
    passages = list(dict.fromkeys(spelling(passage) for item in triplets for passage in item.passages))
    # A query that is itself a passage (pairs of questions) must not become its own negative.
    excluded = {query: {query} for query, item in zip(queries, triplets, strict=True) if not item.negatives}
    for query, item in zip(queries, triplets, strict=True):
        if query in excluded:
            excluded[query].add(spelling(item.positive))
    mined = _most_similar(excluded, passages, model, count, prompts)
    pairs = [(item, mined[query]) for query, item in zip(queries, triplets, strict=True) if not item.negatives]
    _require([item for item, negatives in pairs if len(negatives) < count], len(pairs), count)
    return Triplets(
        [
            item if item.negatives else replace(item, negatives=mined[query])
            for query, item in zip(queries, triplets, strict=True)
        ],
        triplets.name,
    )


def _most_similar(
    excluded: Mapping[str, Collection[str]],
    passages: Sequence[str],
    model: SentenceTransformer,
    count: int,
    prompts: Prompts,
) -> dict[str, tuple[str, ...]]:
    """Return the ``count`` passages most similar to each query (fewer if there are no more), without the excluded."""
    queries = list(excluded)
    position = {passage: index for index, passage in enumerate(passages)}
    label = "Mining negatives: embedding"
    found_in = encode_tensor(model, passages, "passage", prompts, normalize=True, label=f"{label} passages")
    found_by = encode_tensor(model, queries, "query", prompts, normalize=True, label=f"{label} queries")
    mined = {}
    for start in range(0, len(queries), _QUERIES):
        block = queries[start : start + _QUERIES]
        similarity = model.similarity(found_by[start : start + _QUERIES], found_in)
        for query, row in zip(block, similarity, strict=True):
            hidden = [position[text] for text in excluded[query] if text in position]
            row[hidden] = -float("inf")
            mined[query] = tuple(passages[index] for index in largest(row, min(count, len(passages) - len(hidden))))
    return mined


def _require(missing: Sequence[Triplet], total: int, count: int) -> None:
    if not missing:
        return
    named = ", ".join(f"{triplet.source or 'pair'} ({triplet.query!r:.60})" for triplet in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    raise DataError(
        f"{len(missing)} of {total} pairs have fewer than {count} passages to mine negatives from: {named}{more}.",
        "Mine fewer negatives, give more pairs, or use in-batch negatives without mining.",
    )
