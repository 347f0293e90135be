"""Checking calibration data before anything is computed with it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gaprune.data.lengths import Counter, TokenCounter, word_counter
from gaprune.data.normal import normalise
from gaprune.data.overlap import Overlap, overlap, places
from gaprune.data.statistics import SetReport, describe, examples
from gaprune.models.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplets

__all__ = ["CheckReport", "check"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Args:
        sets: The sets in numbers, the domain first.
        overlaps: Texts in common: of domain and general, and of each with each evaluation task.
        unit: What lengths are counted in, ``tokens`` or ``words``.
        limit: Longest text the model reads, in tokens; ``None`` without a model or a limit.
        problems: What a person should look at, as sentences with places; empty if nothing is wrong.
        unusable: Those of them that make the data unusable: a positive among its own negatives, which the loss would
            pull and push at once, and a set without negatives in which all positives are the same text.
    """

    sets: tuple[SetReport, ...]
    overlaps: tuple[Overlap, ...]
    unit: str
    limit: int | None
    problems: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report in plain types that JSON can hold."""
        return asdict(self) | {"sets": [asdict(item) for item in self.sets], "overlaps": self._overlaps()}

    def _overlaps(self) -> list[dict[str, Any]]:
        return [asdict(item) | {"sources": list(item.sources)} for item in self.overlaps]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of a table: a label, then one value a set; the first row says which."""
        labels = {
            "triplets": "triplets",
            "texts": "texts",
            "with_negatives": "with negatives",
            "without_negatives": "without negatives",
            "distinct_queries": "different queries",
            "distinct_positives": "different positives",
            "duplicate_triplets": "duplicate triplets",
            "duplicate_queries": "repeated queries",
            "positive_is_negative": "positive among own negatives",
            "negative_is_positive": "negative is a positive elsewhere",
            "query_is_positive": "positive is the query",
        }
        rows = [("", *(item.role for item in self.sets)), ("name", *(item.name for item in self.sets))]
        rows += [(label, *(f"{getattr(item, key):,}" for item in self.sets)) for key, label in labels.items()]
        for role in ("query", "positive", "negative"):
            rows.append(
                (f"{role} {self.unit}: min, median, p95, max", *(self._spread(item, role) for item in self.sets))
            )
            if self.limit is not None:
                rows.append((f"{role} cut at {self.limit}", *(self._cut(item, role) for item in self.sets)))
        shares = {
            (item.right, item.is_evaluation, item.left): f"{item.count:,} ({item.share:.1%})" for item in self.overlaps
        }
        for right, is_evaluation in dict.fromkeys((item.right, item.is_evaluation) for item in self.overlaps):
            label = f"texts also in {'evaluation task ' if is_evaluation else ''}{right}"
            rows.append((label, *(shares.get((right, is_evaluation, item.role), "") for item in self.sets)))
        return rows

    @staticmethod
    def _spread(item: SetReport, role: str) -> str:
        lengths = item.lengths.get(role)
        if lengths is None:
            return "none"
        return f"{lengths.minimum:,}, {lengths.median:,.0f}, {lengths.p95:,.0f}, {lengths.maximum:,}"

    @staticmethod
    def _cut(item: SetReport, role: str) -> str:
        lengths = item.lengths.get(role)
        return "none" if lengths is None else f"{lengths.cut:,}"


def _limit(model: SentenceTransformer | None) -> int | None:
    """Return the number of tokens the model reads, ``None`` where it reads any number (static embeddings)."""
    limit = None if model is None else model.max_seq_length
    return None if limit is None or math.isinf(limit) else int(limit)


def _overlap_problem(found: Overlap) -> str:
    one = found.count == 1
    shared = (
        f"{found.left}: {found.count:,} {'text' if one else 'texts'} ({found.share:.1%}) {'is' if one else 'are'} also"
    )
    if found.is_evaluation:
        sentence = (
            f"{shared} in the evaluation task {found.right}, whose result {'it' if one else 'they'} would flatter"
        )
    else:
        sentence = f"{shared} in the general set, so the two tell domain and general less apart"
    where = examples(found.sources, found.count)
    return f"{sentence}: {where}." if where else f"{sentence}."


def check(
    domain: Triplets,
    *,
    general: Triplets | None = None,
    evaluation: Mapping[str, Collection[str]] | None = None,
    tokenizer_model: SentenceTransformer | None = None,
    prompts: Prompts | None = None,
) -> CheckReport:
    """Return what the calibration data holds and what is wrong with it; nothing is changed.

    Args:
        domain: Domain triplets.
        general: General triplets.
        evaluation: Texts (queries and documents) of each evaluation task, by its name.
        tokenizer_model: The model whose tokens and length limit count; words are counted where none is given.
        prompts: Prompts of that model, which count as tokens of every text.

    Raises:
        ModelError: If the model has no tokenizer.
    """
    counter: Counter = word_counter if tokenizer_model is None else TokenCounter(tokenizer_model)
    limit = _limit(tokenizer_model)
    prompts = prompts or Prompts()
    sets = {"domain": domain} if general is None else {"domain": domain, "general": general}
    reports: list[SetReport] = []
    problems: list[str] = []
    unusable: list[str] = []
    known: dict[str, dict[str, str]] = {}
    for role, triplets in sets.items():
        texts = {text for item in triplets for text in (item.query, *item.passages)}
        same = {text: normalise(text) for text in texts}
        report, found, fatal = describe(role, triplets, same, counter, limit=limit, prompts=prompts)
        reports.append(report)
        problems += found
        unusable += fatal
        known[role] = places(triplets, same)
    overlaps = []
    if general is not None:
        overlaps.append(overlap(known["domain"], known["general"], names=("domain", "general"), evaluation=False))
    for task, held_out in (evaluation or {}).items():
        texts_of_task = dict.fromkeys(map(normalise, held_out), "")
        overlaps += [overlap(known[role], texts_of_task, names=(role, task), evaluation=True) for role in sets]
    problems += [_overlap_problem(found) for found in overlaps if found.count]
    return CheckReport(
        sets=tuple(reports),
        overlaps=tuple(overlaps),
        unit="words" if tokenizer_model is None else "tokens",
        limit=limit,
        problems=problems,
        unusable=unusable,
    )
