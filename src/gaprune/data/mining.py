"""Mining hard negatives for pairs that have none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import TYPE_CHECKING

from gaprune.data.normal import normalise
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.util.progress import stage

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.models.prompts import Prompts

__all__ = ["mine_negatives"]

_NAMED = 5
"""Pairs named in an error."""


class _Texts:
    """One spelling for all texts that differ in case, spacing and punctuation only.

    So none of them is mined as a negative where another is the positive.
    """

    def __init__(self) -> None:
        self._spellings: dict[str, str] = {}

    def one(self, text: str) -> str:
        """Return the spelling of ``text`` that was seen first."""
        return self._spellings.setdefault(normalise(text), text)


@contextmanager
def _own_bar() -> Iterator[None]:
    """Show one bar of ours in place of those of mine_hard_negatives, which has no switch for them."""
    with stage("Mining negatives"), redirect_stderr(io.StringIO()):
        yield


def _mined(
    pairs: list[tuple[str, str]], corpus: list[str], model: SentenceTransformer, count: int, prompts: Prompts
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the negatives of each (query, positive); pairs with too few candidates are left out."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    columns = {"query": [query for query, _ in pairs], "positive": [positive for _, positive in pairs]}
    with _own_bar():
        mined = mine_hard_negatives(
            Dataset.from_dict(columns),
            model,
            anchor_column_name="query",
            positive_column_name="positive",
            corpus=corpus,
            num_negatives=count,
            # An empty prompt, unlike None, switches off the model's own.
            query_prompt=prompts.query,
            corpus_prompt=prompts.passage,
            output_format="n-tuple",
            use_faiss=False,
            verbose=False,
        )
    found = mined.to_dict()
    negatives = zip(*(found[f"negative_{number}"] for number in range(1, count + 1)), strict=True)
    return {
        (query, positive): tuple(texts)
        for query, positive, texts in zip(found["query"], found["positive"], negatives, strict=True)
    }


def _refuse_missing(missing: list[Triplet], total: int, count: int) -> None:
    if not missing:
        return
    named = ", ".join(f"{triplet.source or 'pair'} ({triplet.query!r:.60})" for triplet in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    raise DataError(
        f"{len(missing)} of {total} pairs have fewer than {count} passages to mine negatives from: {named}{more}.",
        "Mine fewer negatives, give more pairs, or leave mining out and let the loss use in-batch negatives.",
    )


def mine_negatives(triplets: Triplets, model: SentenceTransformer, *, count: int, prompts: Prompts) -> Triplets:
    """Return ``triplets`` with ``count`` mined negatives for each that had none.

    The negatives of a query are the passages of the whole set that are most similar to it, except every positive of
    that query (a query may stand there several times) and the query itself; texts that differ in case, spacing and
    punctuation only are one text. Triplets that have negatives keep them.

    Args:
        triplets: Pairs, and perhaps triplets.
        model: The model whose similarity decides.
        count: Negatives of each pair.
        prompts: Prompts of ``model``.

    Returns:
        The same triplets in the same order; the same object where all had negatives.

    Raises:
        ConfigError: If ``count`` is below one.
        DataError: If the set holds too few passages for a pair; the pairs are named.
    """
    if count < 1:
        raise ConfigError(f"negatives: {count} is below 1.", "Mine at least one negative a pair, or none at all.")
    if triplets.have_negatives:
        return triplets
    texts = _Texts()
    keys = [(texts.one(item.query), texts.one(item.positive)) for item in triplets]
    corpus = list(dict.fromkeys(texts.one(passage) for item in triplets for passage in item.passages))
    wanted = dict.fromkeys(query for (query, _), item in zip(keys, triplets, strict=True) if not item.negatives)
    known = [key for key in keys if key[0] in wanted]
    # A query that is itself a passage (question pairs) must not become its own negative.
    passages = set(corpus)
    known += [(query, query) for query in wanted if query in passages]
    mined = _mined(list(dict.fromkeys(known)), corpus, model, count, prompts)
    pairs = [item for item in triplets if not item.negatives]
    _refuse_missing(
        [item for item, key in zip(triplets, keys, strict=True) if not item.negatives and key not in mined],
        len(pairs),
        count,
    )
    return Triplets(
        [
            item if item.negatives else replace(item, negatives=mined[key])
            for item, key in zip(triplets, keys, strict=True)
        ],
        triplets.name,
    )
