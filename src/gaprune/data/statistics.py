"""What a set of triplets holds, and what is wrong inside it."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gaprune.data.lengths import Counter, Lengths, measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gaprune.data.triplets import Triplet, Triplets
    from gaprune.models.prompts import Prompts

__all__ = ["SetReport", "describe", "examples"]

_NAMED = 3
"""Places named in a problem."""

_OFTEN_CUT = 0.05
"""Share of cut texts from which on it is a problem."""


@dataclass(frozen=True, slots=True)
class SetReport:
    """One set of triplets in numbers; texts are compared without case, spacing and punctuation.

    Args:
        role: ``domain`` or ``general``.
        name: Name of the set.
        triplets: Number of triplets.
        texts: Number of texts: queries, positives and negatives.
        with_negatives: Triplets with explicit negatives.
        without_negatives: Triplets without.
        distinct_queries: Number of different queries.
        distinct_positives: Number of different positives.
        duplicate_triplets: Triplets that stand there before.
        duplicate_queries: Triplets whose query stands there before, duplicate triplets included.
        positive_is_negative: Triplets whose positive is one of their own negatives.
        negative_is_positive: Triplets one of whose negatives is a positive of the same query elsewhere.
        query_is_positive: Triplets whose positive is the query itself.
        lengths: Lengths by role (query, positive, negative); a role without texts is left out.
    """

    role: str
    name: str
    triplets: int
    texts: int
    with_negatives: int
    without_negatives: int
    distinct_queries: int
    distinct_positives: int
    duplicate_triplets: int
    duplicate_queries: int
    positive_is_negative: int
    negative_is_positive: int
    query_is_positive: int
    lengths: dict[str, Lengths] = field(default_factory=dict)


def examples(sources: Iterable[str], total: int | None = None) -> str:
    """Return the first few of ``sources`` for a sentence, and how many of ``total`` (all of them) are not named."""
    named = [source for source in sources if source]
    left = (len(named) if total is None else total) - _NAMED
    return f"{', '.join(named[:_NAMED])}{f' and {left:,} more' if named and left > 0 else ''}"


def _as(source: str, first: str) -> str:
    """Return ``source`` and the place of the same before it; in the same file its line is enough."""
    file, _, line = first.rpartition(":")
    if file != source.rpartition(":")[0]:
        return f"{source} (as {first})"
    return f"{source} (as {'' if line.startswith('record') else 'line '}{line})"


def _repeated(keys: list[tuple[str, ...]], sources: list[str]) -> list[str]:
    """Return where a key stands that stood somewhere before, each with the place of the first."""
    first: dict[tuple[str, ...], str] = {}
    again: list[str] = []
    for key, source in zip(keys, sources, strict=True):
        if key in first:
            again.append(_as(source, first[key]) if source else "")
        else:
            first[key] = source
    return again


def _faults(triplets: Triplets, same: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the places of each kind of fault, by the name of its number in the report."""
    positives: dict[str, set[str]] = {}
    for item in triplets:
        positives.setdefault(same[item.query], set()).add(same[item.positive])

    def contradicts(item: Triplet) -> bool:
        others = positives[same[item.query]] - {same[item.positive]}
        return any(same[negative] in others for negative in item.negatives)

    return {
        "positive_is_negative": [
            item.source for item in triplets if same[item.positive] in {same[text] for text in item.negatives}
        ],
        "negative_is_positive": [item.source for item in triplets if contradicts(item)],
        "query_is_positive": [item.source for item in triplets if same[item.query] == same[item.positive]],
    }


def _lengths(triplets: Triplets, counter: Counter, limit: int | None, prompts: Prompts) -> dict[str, Lengths]:
    roles = {
        "query": ([item.query for item in triplets], prompts.query),
        "positive": ([item.positive for item in triplets], prompts.passage),
        "negative": ([text for item in triplets for text in item.negatives], prompts.passage),
    }
    measured = {role: measure(texts, prompt, counter, limit) for role, (texts, prompt) in roles.items()}
    return {role: lengths for role, lengths in measured.items() if lengths is not None}


def _counted(sources: list[str], one: str, many: str) -> str:
    """Return ``"N triplets have ... (a.jsonl:3)"``."""
    places = examples(sources)
    return f"{len(sources):,} {one if len(sources) == 1 else many}" + (f": {places}." if places else ".")


def _problems(
    faults: dict[str, list[str]], repeated: list[str], queries: list[str], lengths: dict[str, Lengths]
) -> list[str]:
    sentences = {
        "negative_is_positive": (
            "triplet has a negative that is a positive of the same query elsewhere",
            "triplets have a negative that is a positive of the same query elsewhere",
        ),
        "query_is_positive": (
            "triplet has its query as its positive",
            "triplets have their query as their positive",
        ),
    }
    problems = [_counted(faults[kind], *words) for kind, words in sentences.items() if faults[kind]]
    if repeated:
        problems.append(_counted(repeated, "triplet is a duplicate", "triplets are duplicates"))
    if len(queries) > len(repeated):
        words = "an earlier query again; in one batch its positive counts as the other's negative"
        problems.append(_counted(queries, f"triplet has {words}", f"triplets have {words}"))
    for role, lengths_of_role in lengths.items():
        cut = lengths_of_role.cut or 0
        if cut > _OFTEN_CUT * lengths_of_role.count:
            share = cut / lengths_of_role.count
            problems.append(
                f"{cut} of {lengths_of_role.count} {role} texts ({share:.0%}) are cut at the model's limit."
            )
    return problems


def describe(
    role: str, triplets: Triplets, same: Mapping[str, str], counter: Counter, *, limit: int | None, prompts: Prompts
) -> tuple[SetReport, list[str], list[str]]:
    """Return the numbers of a set, its problems as sentences, and those of them that make it unusable.

    Args:
        role: ``domain`` or ``general``.
        triplets: The set.
        same: Every text of it to its normalised form.
        counter: Counts tokens or words.
        limit: Longest text the model reads.
        prompts: Prompts of the model.
    """
    sources = [item.source for item in triplets]
    repeated = _repeated([tuple(same[text] for text in (item.query, *item.passages)) for item in triplets], sources)
    queries = _repeated([(same[item.query],) for item in triplets], sources)
    faults = _faults(triplets, same)
    lengths = _lengths(triplets, counter, limit, prompts)
    negatives = Tally(bool(item.negatives) for item in triplets)
    report = SetReport(
        role=role,
        name=triplets.name,
        triplets=len(triplets),
        texts=sum(1 + len(item.passages) for item in triplets),
        with_negatives=negatives[True],
        without_negatives=negatives[False],
        distinct_queries=len(triplets) - len(queries),
        distinct_positives=len({same[item.positive] for item in triplets}),
        duplicate_triplets=len(repeated),
        duplicate_queries=len(queries),
        positive_is_negative=len(faults["positive_is_negative"]),
        negative_is_positive=len(faults["negative_is_positive"]),
        query_is_positive=len(faults["query_is_positive"]),
        lengths=lengths,
    )
    fatal = []
    if faults["positive_is_negative"]:
        words = "its positive among its negatives", "their positive among their negatives"
        fatal.append(_counted(faults["positive_is_negative"], f"triplet has {words[0]}", f"triplets have {words[1]}"))
    if not report.with_negatives and report.distinct_positives == 1:
        fatal.append("there is no negative: no triplet has one of its own, and all have the same positive.")
    problems = fatal + _problems(faults, repeated, queries, lengths)
    place = f"{role} ({triplets.name}): "
    return report, [place + problem for problem in problems], [place + problem for problem in fatal]
