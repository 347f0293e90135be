"""Checking calibration data before anything is computed with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gaprune.data.checks.language import language_problems
from gaprune.data.checks.overlap import Overlap, overlap, places
from gaprune.data.checks.prompts import prompt_problems
from gaprune.data.checks.statistics import (
    AGAIN,
    COUNTS,
    FAULTS,
    Counter,
    Lengths,
    SetReport,
    TokenCounter,
    describe,
    word_counter,
)
from gaprune.data.triplets import Triplets
from gaprune.data.words import normalise
from gaprune.models.prompts import Prompts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check.

    Args:
        sets: The sets in numbers, the domain first.
        overlaps: Texts in common: of domain and general, and of each with each evaluation task.
        unit: Unit of lengths, ``tokens`` or ``words``.
        limit: The model's limit in tokens; ``None`` without a model or a limit.
        problems: Problems to look at, as sentences with places.
        spoiling: Those of them with which a run goes to its end and its result misleads: texts of evaluation tasks;
            contradictions, duplicates or missing texts in a twentieth of the triplets or more.
        unusable: The problems that make the data unusable: a positive among its own negatives (the loss would pull
            and push at once), a set without negatives in which all positives are the same text, or texts that begin
            with the prompt that the model puts before them.
    """

    sets: tuple[SetReport, ...]
    overlaps: tuple[Overlap, ...]
    unit: str
    limit: int | None
    problems: list[str] = field(default_factory=list)
    spoiling: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report in plain types for JSON."""
        overlaps = [asdict(item) | {"sources": list(item.sources)} for item in self.overlaps]
        return asdict(self) | {"sets": [item.as_dict() for item in self.sets], "overlaps": overlaps}

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of a table: a label, then one value for each set; the first row is the header.

        What no set has is left out: :attr:`not_found` names it.
        """
        rows = [("", *(item.role for item in self.sets)), ("name", *(item.name for item in self.sets))]
        rows += [
            (label, *(f"{item.counts[key]:,}" for item in self.sets))
            for key, label in COUNTS.items()
            if any(item.counts[key] for item in self.sets)
        ]
        for role in ("query", "positive", "negative"):
            if not any(role in item.lengths for item in self.sets):
                continue
            rows.append((f"{role} {self.unit}: min, median, p95, max", *self._of_lengths(role, _spread)))
            if self.limit is not None:
                rows.append((f"{role} cut at {self.limit}", *self._of_lengths(role, lambda found: f"{found.cut:,}")))
        cells: dict[str, dict[str, str]] = {}
        for found in self.overlaps:
            if found.count:
                cells.setdefault(_label(found), {})[found.left] = found.amount
        rows += [(label, *(of_set.get(item.role, "") for item in self.sets)) for label, of_set in cells.items()]
        return rows

    @property
    def leaks(self) -> tuple[str, ...]:
        """A sentence, without places, about the texts that are in each evaluation task too."""
        return tuple(found.leak for found in self.overlaps if found.count and found.is_evaluation)

    @property
    def not_found(self) -> str:
        """A sentence with what was looked for and is in no set; empty if all was found."""
        absent = [COUNTS[key] for key in FAULTS if not any(item.counts[key] for item in self.sets)]
        seen = {_label(found) for found in self.overlaps if found.count}
        absent += dict.fromkeys(_label(found) for found in self.overlaps if _label(found) not in seen)
        return f"Looked for and not found: {'; '.join(absent)}." if absent else ""

    def _of_lengths(self, role: str, show: Callable[[Lengths], str]) -> list[str]:
        return [show(item.lengths[role]) if role in item.lengths else "none" for item in self.sets]


def _label(found: Overlap) -> str:
    return f"texts also in {'evaluation task ' if found.is_evaluation else ''}{found.right}"


def _spread(lengths: Lengths) -> str:
    return f"{lengths.minimum:,}, {lengths.median:,.0f}, {lengths.p95:,.0f}, {lengths.maximum:,}"


def check(
    domain: Triplets,
    *,
    general: Triplets | None = None,
    evaluation: Mapping[str, Collection[str]] | None = None,
    tokenizer_model: SentenceTransformer | None = None,
    prompts: Prompts | None = None,
    made: bool = False,
) -> CheckReport:
    """Return the numbers and the problems of calibration data; nothing is changed.

    Args:
        domain: Triplets of the domain.
        general: General triplets.
        evaluation: Texts of evaluation tasks, by name.
        tokenizer_model: Its tokens are counted; words without one.
        prompts: Put before queries and passages.
        made: Whether the domain's triplets were made from documents: they repeat queries, which batches keep apart.

    Raises:
        ModelError: If the model has no tokenizer.
    """
    counter: Counter = word_counter if tokenizer_model is None else TokenCounter(tokenizer_model)
    limit = None if tokenizer_model is None else tokenizer_model.max_seq_length
    limit = None if limit is None or math.isinf(limit) else int(limit)  # static embeddings have none
    sets = {"domain": domain} if general is None else {"domain": domain, "general": general}
    reports: list[SetReport] = []
    problems: list[str] = []
    spoiling: list[str] = []
    unusable: list[str] = []
    known: dict[str, dict[str, str]] = {}
    for role, triplets in sets.items():
        texts = {text for item in triplets for text in (item.query, *item.passages)}
        normal = {text: normalise(text) for text in texts}
        report, found, spoilt, fatal = describe(
            role, triplets, normal, counter, limit=limit, prompts=prompts or Prompts()
        )
        if made and role == "domain":
            found = [problem for problem in found if AGAIN not in problem]
        reports.append(report)
        if tokenizer_model is not None and prompts is not None:
            doubtful, twice = prompt_problems(tokenizer_model, prompts, triplets)
            language = language_problems(tokenizer_model, texts, triplets.name)
            found, fatal = [*found, *doubtful, *twice, *language], [*fatal, *twice]
        problems += (problem for problem in found if problem not in problems)
        spoiling += spoilt
        unusable += fatal
        known[role] = places(triplets, normal)
    overlaps = []
    if general is not None:
        overlaps.append(overlap(known["domain"], known["general"], names=("domain", "general"), evaluation=False))
    for task, held_out in (evaluation or {}).items():
        of_task = dict.fromkeys(map(normalise, held_out), "")
        overlaps += [overlap(known[role], of_task, names=(role, task), evaluation=True) for role in sets]
    problems += [each.problem for each in overlaps if each.count]
    spoiling += [each.problem for each in overlaps if each.count and each.is_evaluation]
    unit = "words" if tokenizer_model is None else "tokens"
    return CheckReport(tuple(reports), tuple(overlaps), unit, limit, problems, spoiling, unusable)
