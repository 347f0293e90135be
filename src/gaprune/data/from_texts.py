"""Triplets made from plain documents, without labels and without a language model."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gaprune.config.data import LONGEST, SHORTEST
from gaprune.data.bm25 import Bm25
from gaprune.data.documents import read_documents
from gaprune.data.negatives import EmbeddingSearch, Search, choose_negatives
from gaprune.data.pairs import KINDS, Kind, Pair, make_pairs
from gaprune.data.passages import cut
from gaprune.data.queries import read_queries
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError, suggest
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.util.progress import stage

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["MadeTriplets", "TextsReport", "triplets_from_texts"]


@dataclass(frozen=True, slots=True)
class TextsReport:
    """How triplets came out of documents.

    Args:
        documents: Documents read.
        passages: Passages they were cut into, without those dropped.
        made: Triplets by kind.
        dropped: What was left out, by what it is and the reason.
        spare: Pairs that were not needed for the count asked for.
    """

    documents: int
    passages: int
    made: Mapping[str, int]
    dropped: Mapping[str, int]
    spare: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report in plain types that JSON can hold."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of a table: what, and how many."""
        rows = [("documents", self.documents), ("passages", self.passages)]
        rows += [(f"made: {kind}", number) for kind, number in self.made.items()]
        rows += [(f"dropped {reason}", number) for reason, number in self.dropped.items()]
        rows += [("pairs not needed", self.spare)] if self.spare else []
        return [(label, f"{number:,}") for label, number in rows]


@dataclass(frozen=True, slots=True)
class MadeTriplets:
    """Triplets with where they come from.

    Args:
        triplets: The triplets; the ``source`` of each is ``file:line`` of its positive, or of the user's query.
        kinds: How each was made.
        report: How many of what.
    """

    triplets: Triplets
    kinds: tuple[Kind, ...]
    report: TextsReport

    def notes(self) -> list[dict[str, str]]:
        """Return ``source`` and ``kind`` of each triplet, for :func:`gaprune.data.write_triplets`."""
        return [{"source": item.source, "kind": kind} for item, kind in zip(self.triplets, self.kinds, strict=True)]


def triplets_from_texts(
    source: str | Path,
    *,
    queries: str | Path | None = None,
    kinds: Sequence[Kind] | None = None,
    negatives: int = 1,
    model: str | Path | SentenceTransformer | None = None,
    prompts: Prompts | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
    count: int | None = None,
    shortest: int = SHORTEST,
    longest: int = LONGEST,
    seed: int = 0,
) -> MadeTriplets:
    """Make triplets from documents: from their titles, headings and sentences, or from queries of your own.

    ``title`` pairs a document's title with its first passage, ``heading`` a heading with the first passage under it,
    ``sentence`` a sentence with the passage it stands in, ``cloze`` a sentence with what is left of its passage
    without it (the inverse cloze task), ``query`` a query of your own with its passage.

    Args:
        source: Documents: a .txt, .md or .jsonl file, or a folder of them; see :func:`read_documents`.
        queries: A file of records with ``query`` and ``document`` (an id) or ``positive``.
        kinds: Which to make; all but ``query``, or ``query`` alone where queries are given.
        negatives: Negatives of each; 0 for pairs.
        model: Finds negatives by its embeddings, a folder, a hub id or a loaded model; BM25 does where none is given.
        prompts: Prompts of that model; its own by default.
        device: Torch device to load it on.
        trust_remote_code: Whether code that comes with it may run.
        count: Make this many, drawn at random; all by default.
        shortest: Words of a passage, at least.
        longest: Words of a passage, at most.
        seed: Seed of every draw.

    Raises:
        ConfigError: If an option makes no sense, or there are fewer than ``count``.
        DataError: If a file cannot be used, or nothing can be made of the documents; before a model is loaded.

    Source:
        Lee et al. (2019), Latent Retrieval for Weakly Supervised Open Domain Question Answering, for the inverse
        cloze task.
    """
    wanted = _checked(kinds, queries, negatives=negatives, count=count, shortest=shortest, longest=longest)
    documents = read_documents(source)
    cut_up = cut(documents, shortest=shortest, longest=longest)
    passages = cut_up.items
    if not passages:
        raise DataError(
            f"none of the {len(documents)} documents has a passage of {shortest} to {longest} words.",
            "Give longer documents, or other limits: --min-words and --max-words (shortest=..., longest=...).",
            source=source,
        )
    texts = [passage.text for passage in passages]
    index = Bm25(texts)
    own = [] if queries is None else read_queries(queries, documents, passages, index)
    pairs, dropped = make_pairs(documents, passages, wanted, own, shortest=shortest, seed=seed)
    dropped = cut_up.dropped + dropped
    _require(len(pairs), count, dropped, source)
    search: Search = index
    if model is not None and negatives:
        if isinstance(model, str | Path):
            model = load_model(model, device=device, trust_remote_code=trust_remote_code)
        search = EmbeddingSearch(texts, model, prompts or resolve_prompts(model))
    order = list(range(len(pairs)))
    if count is not None:
        random.Random(seed).shuffle(order)  # noqa: S311 (no secret)
    found, looked_at, refused = _found([pairs[number] for number in order], texts, search, negatives, count)
    made = sorted((order[place], chosen) for place, chosen in found.items())
    dropped += refused
    _require(len(made), count, dropped, source)
    items = [
        Triplet(pairs[number].query, pairs[number].positive, chosen, pairs[number].source) for number, chosen in made
    ]
    of_kind = tuple(pairs[number].kind for number, _ in made)
    return MadeTriplets(
        Triplets(items, Path(source).resolve().name),
        of_kind,
        TextsReport(
            documents=len(documents),
            passages=len(passages),
            made={kind: of_kind.count(kind) for kind in wanted},
            dropped=dict(sorted(dropped.items())),
            spare=len(pairs) - looked_at,
        ),
    )


def _checked(
    kinds: Sequence[Kind] | None,
    queries: str | Path | None,
    *,
    negatives: int,
    count: int | None,
    shortest: int,
    longest: int,
) -> tuple[Kind, ...]:
    """Return the kinds to make; the options make sense."""
    wanted = tuple(dict.fromkeys(kinds)) if kinds else (KINDS if queries is None else ("query",))
    for kind in wanted:
        if kind not in get_args(Kind):
            raise ConfigError(
                f"kinds: {kind!r} is none.{suggest(kind, get_args(Kind))}", f"There are {', '.join(get_args(Kind))}."
            )
    if ("query" in wanted) != (queries is not None):
        raise ConfigError(
            "kinds, queries: the kind 'query' and a file of queries belong together.",
            "Name both (--queries FILE --kinds query,title), or neither.",
        )
    for option, value, least in (("negatives", negatives, 0), ("count", count, 1), ("shortest", shortest, 1)):
        if value is not None and value < least:
            raise ConfigError(f"{option}: {value} is below {least}.", f"Give a number from {least} on.")
    if longest < shortest:
        raise ConfigError(
            f"longest: {longest} is below shortest, {shortest}.",
            "Let --max-words (longest=...) be above --min-words (shortest=...).",
        )
    return wanted


def _require(there_are: int, count: int | None, dropped: Counter[str], source: str | Path) -> None:
    """Refuse documents that give no triplet, or fewer than are asked for, saying what was left out."""
    left_out = "; ".join(f"{reason} ({number:,})" for reason, number in dropped.most_common()) or "nothing"
    if not there_are:
        raise DataError(
            f"no triplet can be made of the documents. Left out: {left_out}.",
            "Give more or longer documents, or other --kinds (kinds=...).",
            source=source,
        )
    if count is not None and there_are < count:
        raise ConfigError(
            f"count: {count} asked for, and {there_are} can be made of {source}. Left out: {left_out}.",
            f"Use a number from 1 to {there_are}, or leave count (--count) out to make them all.",
        )


def _found(
    pairs: Sequence[Pair], texts: Sequence[str], search: Search, negatives: int, count: int | None
) -> tuple[dict[int, tuple[str, ...]], int, Counter[str]]:
    """Return the negatives by position of the pair, how many pairs were looked at, and how many had none."""
    found: dict[int, tuple[str, ...]] = {}
    refused: Counter[str] = Counter()
    if not negatives:
        return dict.fromkeys(range(len(pairs) if count is None else min(count, len(pairs))), ()), len(pairs), refused
    looked_at = 0
    with stage("Choosing negatives", total=len(pairs) if count is None else count) as shown:
        for place, chosen in enumerate(choose_negatives(pairs, texts, search, count=negatives)):
            looked_at = place + 1
            if chosen is None:
                refused[f"{pairs[place].kind}: too few passages fit as negatives"] += 1
            else:
                found[place] = chosen
            shown.update(looked_at if count is None else len(found))
            if len(found) == count:
                break
    return found, looked_at, refused
