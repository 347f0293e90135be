"""The numbers of a set of triplets, lengths among them, and its problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gaprune.data.checks.overlap import repeated, shortened
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ModelError
from gaprune.models.prompts import Prompts
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Counter = Callable[[Sequence[str], str], list[int]]
"""Takes texts and the prompt before each; returns the length of each."""

_CHUNK = 1024

_OFTEN_CUT = 0.05
"""Share of cut texts above which they are a problem."""

_SPOILT = 0.05
"""Share of triplets with the same problem from which on it spoils a run."""

_MISSING = {"nan", "NaN", "NaT", "<NA>", "None", "null", "NULL"}
"""What programs write in the place of a missing text."""

AGAIN = "query of an earlier triplet with other passages; in one batch the positive of one is a negative of the other"
"""What is said of queries that several triplets have."""

_SENTENCES = {
    "positive_is_negative": ("has its positive among its negatives", "have their positive among their negatives"),
    "negative_is_positive": (
        "has a negative that is a positive of the same query elsewhere",
        "have a negative that is a positive of the same query elsewhere",
    ),
    "query_is_positive": ("has its query as its positive", "have their query as their positive"),
    "duplicate_triplets": ("is a duplicate", "are duplicates"),
    "duplicate_queries": (f"has the {AGAIN}", f"have the {AGAIN}"),
    "missing_text": (
        "has 'nan', 'None' or 'null' for a text, which may be missing",
        "have 'nan', 'None' or 'null' for a text, which may be missing",
    ),
}
"""Predicates for one triplet and for several, by the name of the number in the report."""

COUNTS = {
    "triplets": "triplets",
    "texts": "texts",
    "with_negatives": "with negatives",
    "without_negatives": "without negatives",
    "distinct_queries": "distinct queries",
    "distinct_positives": "distinct positives",
    "duplicate_triplets": "duplicate triplets",
    "duplicate_queries": "repeated queries",
    "positive_is_negative": "positive among own negatives",
    "negative_is_positive": "negative is a positive of the same query",
    "query_is_positive": "positive is the query",
    "missing_text": "a text is 'nan', 'None' or 'null'",
}
"""Names of the counts of a set, and their labels; texts are compared without case, spacing and punctuation."""


FAULTS = tuple(_SENTENCES)
"""Names of the counts that say that something may be wrong."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the texts of one role; ``cut`` of them are longer than the model's limit, if there is one."""

    count: int
    minimum: int
    median: float
    p95: float
    maximum: int
    cut: int | None


def lengths_of(texts: Sequence[str], prompt: str, counter: Counter, limit: int | None) -> Lengths:
    """Return the lengths of ``texts``."""
    values = np.asarray(counter(texts, prompt))
    return Lengths(
        count=len(texts),
        minimum=int(values.min()),
        median=float(np.median(values)),
        p95=float(np.percentile(values, 95)),
        maximum=int(values.max()),
        cut=None if limit is None else int((values > limit).sum()),
    )


def word_counter(texts: Sequence[str], prompt: str) -> list[int]:
    """Return the number of words of each text and its prompt."""
    return [len((prompt + text).split()) for text in texts]


class TokenCounter:
    """Counts tokens as the model reads them, with the prompt and special tokens.

    Raises:
        ModelError: If the model has no tokenizer.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._tokenizer: Any = getattr(model, "tokenizer", None)
        if self._tokenizer is None:
            raise ModelError("The model has no tokenizer, so tokens cannot be counted.", "Check without a model.")

    def __call__(self, texts: Sequence[str], prompt: str) -> list[int]:
        """Return the number of tokens of each text and its prompt."""
        from transformers import PreTrainedTokenizerBase

        lengths: list[int] = []
        for start in track(range(0, len(texts), _CHUNK), "Counting tokens"):
            chunk = [prompt + text for text in texts[start : start + _CHUNK]]
            if isinstance(self._tokenizer, PreTrainedTokenizerBase):
                # verbose=False: texts above the limit are counted here and need no warning.
                ids = self._tokenizer(chunk, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
                lengths += map(len, ids)
            else:
                encodings = self._tokenizer.encode_batch(chunk, add_special_tokens=False)
                lengths += (len(encoding.ids) for encoding in encodings)
        return lengths


@dataclass(frozen=True, slots=True)
class SetReport:
    """One set of triplets in numbers.

    Args:
        role: ``domain`` or ``general``.
        name: Name of the set.
        counts: The counts named in :data:`COUNTS`.
        lengths: Lengths by role (query, positive, negative); a role without texts is left out.
    """

    role: str
    name: str
    counts: dict[str, int]
    lengths: dict[str, Lengths]

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers in plain types for JSON."""
        lengths = {role: asdict(found) for role, found in self.lengths.items()}
        return {"role": self.role, "name": self.name, **self.counts, "lengths": lengths}


def describe(
    role: str, triplets: Triplets, normal: Mapping[str, str], counter: Counter, *, limit: int | None, prompts: Prompts
) -> tuple[SetReport, list[str], list[str], list[str]]:
    """Return the numbers of a set, its problems, those that spoil a run, and those that make it unusable."""
    places = _places(triplets, normal)
    lengths = _lengths(triplets, counter, limit, prompts)
    counts = _counts(triplets, normal) | {kind: len(found) for kind, found in places.items()}
    counts["duplicate_queries"] += counts["duplicate_triplets"]
    counts["distinct_queries"] = len(triplets) - counts["duplicate_queries"]
    fatal = _sentences({"positive_is_negative": places.pop("positive_is_negative")})
    if not counts["with_negatives"] and counts["distinct_positives"] == 1:
        fatal.append("no triplet has a negative, and all have the same positive.")
    problems = fatal + _sentences(places) + _often_cut(lengths)
    frequent = {kind: found for kind, found in places.items() if len(found) >= _SPOILT * len(triplets)}
    spoiling = _sentences({kind: found for kind, found in frequent.items() if kind != "duplicate_queries"})
    prefix = f"{role} ({triplets.name}): "
    report = SetReport(role, triplets.name, {name: counts[name] for name in COUNTS}, lengths)
    said, spoilt, refused = ([prefix + each for each in found] for found in (problems, spoiling, fatal))
    return report, said, spoilt, refused


def _counts(triplets: Triplets, normal: Mapping[str, str]) -> dict[str, int]:
    with_negatives = sum(bool(item.negatives) for item in triplets)
    return {
        "triplets": len(triplets),
        "texts": sum(1 + len(item.passages) for item in triplets),
        "with_negatives": with_negatives,
        "without_negatives": len(triplets) - with_negatives,
        "distinct_positives": len({normal[item.positive] for item in triplets}),
    }


def _places(triplets: Triplets, normal: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the places of each kind of problem; a duplicate triplet does not count as a repeated query too."""
    positives: dict[str, set[str]] = {}
    for item in triplets:
        positives.setdefault(normal[item.query], set()).add(normal[item.positive])

    def contradicts(item: Triplet) -> bool:
        others = positives[normal[item.query]] - {normal[item.positive]}
        return any(normal[negative] in others for negative in item.negatives)

    sources = [item.source for item in triplets]
    whole = [tuple(normal[text] for text in (item.query, *item.passages)) for item in triplets]
    duplicates = repeated(whole, sources)
    queries = repeated([normal[item.query] for item in triplets], sources)
    return {
        "positive_is_negative": [
            item.source for item in triplets if normal[item.positive] in {normal[text] for text in item.negatives}
        ],
        "negative_is_positive": [item.source for item in triplets if contradicts(item)],
        "query_is_positive": [item.source for item in triplets if normal[item.query] == normal[item.positive]],
        "missing_text": [
            item.source for item in triplets if _MISSING & {text.strip() for text in (item.query, *item.passages)}
        ],
        "duplicate_triplets": list(duplicates.values()),
        "duplicate_queries": [place for number, place in queries.items() if number not in duplicates],
    }


def _sentences(places: Mapping[str, Sequence[str]]) -> list[str]:
    """Return ``"N triplets have ...: a.jsonl:3."`` for each kind of problem that occurs."""
    sentences = []
    for kind, sources in places.items():
        one, many = _SENTENCES[kind]
        subject = f"1 triplet {one}" if len(sources) == 1 else f"{len(sources):,} triplets {many}"
        where = shortened(sources)
        if sources:
            sentences.append(f"{subject}: {where}." if where else f"{subject}.")
    return sentences


def _lengths(triplets: Triplets, counter: Counter, limit: int | None, prompts: Prompts) -> dict[str, Lengths]:
    roles = {
        "query": ([item.query for item in triplets], prompts.query),
        "positive": ([item.positive for item in triplets], prompts.passage),
        "negative": ([text for item in triplets for text in item.negatives], prompts.passage),
    }
    return {role: lengths_of(texts, prompt, counter, limit) for role, (texts, prompt) in roles.items() if texts}


def _often_cut(lengths: Mapping[str, Lengths]) -> list[str]:
    return [
        f"{of_role.cut} of {of_role.count} {role} texts ({of_role.cut / of_role.count:.0%}) are longer than the "
        "model's limit and are cut."
        for role, of_role in lengths.items()
        if of_role.cut is not None and of_role.cut > _OFTEN_CUT * of_role.count
    ]
