"""Queries of a domain that are held out for judging, as a retrieval task in the layout of BEIR."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gaprune.data.triplets import Triplet, Triplets
from gaprune.data.words import normalise
from gaprune.errors import DataError
from gaprune.util.files import write_text

FEWEST_TO_JUDGE = 50
"""With fewer queries, a mean of nDCG has a standard error of about five points, and a judgement means little."""

HELD_OUT = 0.1
"""Share of the triplets that are held out, by default."""

MOST_QUERIES = 300
"""Maximum number of held-out queries: with so many, the standard error of a mean of nDCG is about two points."""

_MOST_PASSAGES = 5000


def hold_out_queries(triplets: Triplets, *, share: float, most: int, seed: int) -> tuple[Triplets, list[Triplet]]:
    """Split triplets into those to learn from and those to judge with.

    Triplets with the same query or the same positive, but for case and punctuation, are on one side, so that no
    held-out query was trained with, and none of its passages was trained with another query.

    Args:
        triplets: All triplets.
        share: Share of the triplets to hold out.
        most: Maximum number of triplets to hold out.
        seed: Seed of the draw.

    Returns:
        The triplets to learn from, and those held out.

    Raises:
        DataError: If all triplets are connected by queries and positives.
    """
    groups = _connected(triplets)
    if len(groups) < 2:
        raise DataError(
            "all triplets share queries or positives, so no query can be held out.",
            "Give triplets with at least two different queries and positives.",
            source=triplets.name,
        )
    wanted = max(1, min(most, round(share * len(triplets))))
    random.Random(seed).shuffle(groups)  # noqa: S311 (no secret)
    held_out: set[int] = set()
    for group in reversed(groups[1:]):
        if len(held_out) + len(group) <= wanted:  # a large group, such as all that share an answer, is trained on
            held_out.update(group)
    if not held_out:
        smallest = min(groups, key=len)
        held_out.update(smallest)
    training = [item for number, item in enumerate(triplets) if number not in held_out]
    return Triplets(training, triplets.name), [triplets[number] for number in sorted(held_out)]


def too_few_to_judge(triplets: Triplets, *, share: float = HELD_OUT, seed: int = 0) -> list[str]:
    """Return a sentence if too few queries can be held out of ``triplets`` to judge a model with, else nothing.

    Raises:
        DataError: If none can be held out.
    """
    held = len(hold_out_queries(triplets, share=share, most=FEWEST_TO_JUDGE, seed=seed)[1])
    return [too_few(held)] if held < FEWEST_TO_JUDGE else []


def planned_text(triplets: Triplets, *, share: float = HELD_OUT, seed: int = 0) -> str:
    """Return how many queries ``gaprune shrink`` would hold out of ``triplets``, and whether they are enough."""
    try:
        held = len(hold_out_queries(triplets, share=share, most=MOST_QUERIES, seed=seed)[1])
    except DataError:
        return "`gaprune shrink` cannot hold out a query of these data: all triplets share queries or positives."
    if held >= FEWEST_TO_JUDGE:
        return f"`gaprune shrink` needs no tasks: it holds out {held} queries of these data and judges by them."
    return (
        f"`gaprune shrink` would hold out {says_little(held)} It takes about {round(FEWEST_TO_JUDGE / share)} "
        "triplets to judge by held-out queries, or a folder of tasks: `gaprune evaluate --tasks FOLDER`."
    )


def too_few(queries: int) -> str:
    """Return what it means that so few queries are held out."""
    return (
        f"{says_little(queries, 'held-out ')} More data, or a larger share of them (held_out, {HELD_OUT:g} by "
        "default: gaprune shrink --set held_out=SHARE), make the judgement better."
    )


def says_little(queries: int, origin: str = "") -> str:
    """Return that a judgement by so few queries means little."""
    return (
        f"{queries} {origin}{'query' if queries == 1 else 'queries'}: with fewer than {FEWEST_TO_JUDGE} the measured "
        "quality says little (a standard error of five points of nDCG or more)."
    )


def _connected(triplets: Triplets) -> list[list[int]]:
    """Return the numbers of the triplets in groups that share no query and no positive, however they are spelt."""
    texts = [(("query", normalise(item.query)), ("positive", normalise(item.positive))) for item in triplets]
    by_text: dict[tuple[str, str], list[int]] = {}
    for number, of_triplet in enumerate(texts):
        for text in of_triplet:
            by_text.setdefault(text, []).append(number)
    groups, seen = [], set[int]()
    for first in range(len(triplets)):
        if first in seen:
            continue
        seen.add(first)
        group = [first]
        for number in group:  # it grows while it is walked through
            for text in texts[number]:
                others = [other for other in by_text.pop(text, ()) if other not in seen]
                seen.update(others)
                group += others
        groups.append(group)
    return groups


def write_retrieval_task(folder: Path, queries: Sequence[Triplet], others: Iterable[str]) -> Path:
    """Write a retrieval task: the passages of ``queries`` are relevant, and all texts are searched.

    Args:
        folder: Folder to write; its name is the task's.
        queries: Held-out triplets; their negatives are searched too.
        others: Further passages to search; at most 5,000 passages are searched in all.
    """
    passages = dict.fromkeys([item.positive for item in queries])
    passages |= dict.fromkeys(text for item in queries for text in item.negatives)
    for text in others:
        if len(passages) >= _MOST_PASSAGES:
            break
        passages.setdefault(text)
    ids = {text: f"p{number}" for number, text in enumerate(passages)}
    relevant: dict[str, set[str]] = {}
    for item in queries:
        relevant.setdefault(item.query, set()).add(ids[item.positive])
    judged = {f"q{number}": query for number, query in enumerate(relevant)}
    _write_lines(folder / "corpus.jsonl", ({"_id": name, "text": text} for text, name in ids.items()))
    _write_lines(folder / "queries.jsonl", ({"_id": name, "text": text} for name, text in judged.items()))
    rows = (f"{name}\t{passage}\t1" for name, query in judged.items() for passage in sorted(relevant[query]))
    write_text(folder / "qrels" / "test.tsv", "\n".join(("query-id\tcorpus-id\tscore", *rows)) + "\n")
    return folder


def _write_lines(path: Path, lines: Iterable[Mapping[str, str]]) -> None:
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
