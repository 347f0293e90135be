"""Making triplets from plain documents, without labels and without a language model."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gaprune.config.data import LONGEST, SHORTEST
from gaprune.data.documents.pairs import KINDS, Kind, Pair, make_pairs, without_ambiguous
from gaprune.data.documents.passages import cut
from gaprune.data.documents.queries import read_queries
from gaprune.data.documents.read import read_documents
from gaprune.data.documents.search import Bm25, EmbeddingSearch, Search, choose_negatives
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError, suggest
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, slots=True)
class TextsReport:
    """How triplets were made from documents: ``made`` by kind, ``dropped`` by reason, ``spare`` beyond the count.

    ``passages`` are those of ``shortest`` words or more.
    """

    documents: int
    passages: int
    shortest: int
    made: Mapping[str, int]
    dropped: Mapping[str, int]
    spare: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report in plain types for JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of a table: a label and a number."""
        rows = [("documents", self.documents), (f"passages of {self.shortest} words or more", self.passages)]
        rows += [(f"made: {kind}", number) for kind, number in self.made.items() if number]
        rows += [(f"dropped {reason}", number) for reason, number in self.dropped.items()]
        rows += [("pairs not needed", self.spare)] if self.spare else []
        return [(label, f"{number:,}") for label, number in rows]


@dataclass(frozen=True, slots=True)
class MadeTriplets:
    """Triplets and how they were made.

    Args:
        triplets: The triplets; the ``source`` of each is ``file:line`` of its positive, or of the user's query.
        kinds: The kind of each.
        report: The numbers.
    """

    triplets: Triplets
    kinds: tuple[Kind, ...]
    report: TextsReport

    def notes(self) -> list[dict[str, str]]:
        """Return ``source`` and ``kind`` of each triplet, as columns for :func:`write_triplets`."""
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
    """Make triplets from the titles, headings and sentences of documents, or from queries of the user.

    ``title`` pairs a document's title with its first passage, ``heading`` a heading with the first passage under it,
    ``sentence`` a sentence with its passage, ``cloze`` a sentence with its passage without that sentence (the inverse
    cloze task), ``query`` a query of the user with its passage.

    Args:
        source: Documents: a .txt, .md or .jsonl file, or a folder of them; see :func:`read_documents`.
        queries: A file of records with ``query`` and ``document`` (an id) or ``positive``.
        kinds: The kinds to make; by default all but ``query``, or ``query`` alone if queries are given.
        negatives: Number of negatives of each triplet; 0 makes pairs.
        model: Finds negatives by embeddings (a folder, a hub id or a loaded model); without one, BM25 finds them.
        prompts: Prompts of that model; its own by default.
        device: Torch device to load the model on.
        trust_remote_code: Whether code that comes with the model may run.
        count: Number of triplets to draw at random; all by default.
        shortest: Minimum number of words of a passage.
        longest: Maximum number of words of a passage.
        seed: Seed of every draw.

    Raises:
        ConfigError: If an option is invalid, or fewer than ``count`` triplets can be made.
        DataError: If a file cannot be used, or no triplet can be made. Most errors come before a model is loaded.

    Source: Lee et al. (2019), Latent Retrieval for Weakly Supervised Open Domain Question Answering (inverse cloze).
    """
    wanted = _checked_kinds(kinds, queries)
    _check_numbers(negatives, count, shortest, longest)
    documents = read_documents(source)
    passages, dropped = cut(documents, shortest=shortest, longest=longest)
    if not passages:
        raise DataError(
            f"none of the {len(documents)} documents has a passage of {shortest} to {longest} words.",
            "Give longer documents, or make the triplets by `gaprune data from-texts` with other limits: --min-words "
            "and --max-words (shortest=..., longest=...).",
            source=source,
        )
    texts = [passage.text for passage in passages]
    search: Search
    search = bm25 = Bm25(texts)
    own = [] if queries is None else read_queries(queries, documents, passages, bm25)
    made_kinds = [kind for kind in wanted if kind != "query"]
    candidates, unfit = make_pairs(documents, passages, made_kinds, shortest=shortest, seed=seed)
    candidates = sorted(candidates + own, key=lambda pair: wanted.index(pair.kind))
    pairs, ambiguous = without_ambiguous(candidates)
    dropped += unfit + ambiguous
    _require(len(pairs), count, dropped, source)
    if model is not None and negatives:
        if isinstance(model, str | Path):
            model = load_model(model, device=device, trust_remote_code=trust_remote_code)
        search = EmbeddingSearch(texts, model, prompts or resolve_prompts(model))
    order = list(range(len(pairs)))
    if count is not None:
        random.Random(seed).shuffle(order)  # noqa: S311 (no secret)
    chosen, refused = _with_negatives(pairs, order, texts, search, negatives, count)
    spare = len(pairs) - len(chosen) - refused.total()
    dropped += refused
    _require(len(chosen), count, dropped, source)
    made = [(pairs[index], chosen[index]) for index in sorted(chosen)]
    items = [Triplet(pair.query, pair.positive, found, pair.source) for pair, found in made]
    of_kind = Counter(pair.kind for pair, _ in made)
    return MadeTriplets(
        Triplets(items, Path(source).resolve().name),
        tuple(pair.kind for pair, _ in made),
        TextsReport(
            documents=len(documents),
            passages=len(passages),
            shortest=shortest,
            made={kind: of_kind[kind] for kind in wanted},
            dropped=dict(sorted(dropped.items())),
            spare=spare,
        ),
    )


def _checked_kinds(kinds: Sequence[Kind] | None, queries: str | Path | None) -> tuple[Kind, ...]:
    """Return the kinds to make."""
    wanted = tuple(dict.fromkeys(kinds)) if kinds else (KINDS if queries is None else ("query",))
    known = get_args(Kind)
    for kind in wanted:
        if kind not in known:
            raise ConfigError(f"kinds: {kind!r} is unknown.{suggest(kind, known)}", f"Use {', '.join(known)}.")
    if ("query" in wanted) != (queries is not None):
        raise ConfigError(
            "kinds, queries: the kind 'query' and a file of queries belong together.",
            "Name both (--queries FILE --kinds query,title), or neither.",
        )
    return wanted


def _check_numbers(negatives: int, count: int | None, shortest: int, longest: int) -> None:
    for option, value, least in (("negatives", negatives, 0), ("count", count, 1), ("shortest", shortest, 1)):
        if value is not None and value < least:
            raise ConfigError(f"{option}: {value} is below {least}.", f"Give a number from {least} on.")
    if longest < shortest:
        raise ConfigError(
            f"longest: {longest} is below shortest, {shortest}.",
            "Let --max-words (longest=...) be above --min-words (shortest=...).",
        )


def _require(available: int, count: int | None, dropped: Counter[str], source: str | Path) -> None:
    """Refuse documents that give no triplet, or fewer than ``count``; the message says why."""
    left_out = "; ".join(f"{reason} ({number:,})" for reason, number in dropped.most_common()) or "nothing"
    if not available:
        raise DataError(
            f"no triplet can be made from the documents. Left out: {left_out}.",
            "Give more or longer documents, or make the triplets by `gaprune data from-texts` with other --kinds "
            "(kinds=...).",
            source=source,
        )
    if count is not None and available < count:
        raise ConfigError(
            f"count: {count} asked for, and {available} can be made from {source}. Left out: {left_out}.",
            f"Use a number from 1 to {available}, or leave count (--count) out to make them all.",
        )


def _with_negatives(
    pairs: Sequence[Pair],
    order: Sequence[int],
    texts: Sequence[str],
    search: Search,
    negatives: int,
    count: int | None,
) -> tuple[dict[int, tuple[str, ...]], Counter[str]]:
    """Return the negatives of the first ``count`` pairs that have enough, by index, and the reasons of the others."""
    refused: Counter[str] = Counter()
    if not negatives:
        return dict.fromkeys(order[:count], ()), refused
    chosen: dict[int, tuple[str, ...]] = {}
    found = choose_negatives([pairs[index] for index in order], texts, search, count=negatives)
    for index, passages in track(zip(order, found, strict=True), "Choosing negatives", total=len(order)):
        if passages is None:
            refused[f"{pairs[index].kind}: too few passages are fit as negatives"] += 1
        else:
            chosen[index] = passages
        if len(chosen) == count:
            break
    return chosen, refused
