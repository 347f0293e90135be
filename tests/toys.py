"""Toy files for the tests of whole runs: triplets, evaluation tasks, and what they are called."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gaprune.data.triplets import Triplet, Triplets

__all__ = ["GENERAL", "jsonl", "nli", "tasks_folder", "triplets_file"]

GENERAL = Triplets(
    [
        Triplet("a cat sleeps", "the cat sleeps in the sun", ("cash and a loan",), "general.jsonl:1"),
        Triplet("who runs over grass", "a dog runs over green grass", ("net income of the bank",), "general.jsonl:2"),
        Triplet("green grass", "the grass is green in the sun", ("shares sold", "the cat"), "general.jsonl:3"),
        Triplet("the end of a year", "a year ends", ("revenue",), "general.jsonl:4"),
        Triplet("where is the sun", "the sun is over the grass", ("it had lent",), "general.jsonl:5"),
        Triplet("dogs", "every dog runs", ("the rate of interest", "per cent"), "general.jsonl:6"),
    ],
    "general.jsonl",
)
"""Six general triplets, beside the seven of the fixture ``toy_triplets``."""

_PASSAGES = (
    "the bank raised the rate of interest",
    "a dog runs over green grass",
    "net income was lower than a year before",
    "cash at the end of the period",
    "the cat sleeps in the sun",
    "12 shares were sold in the quarter",
    "costs grew by 7 per cent",
    "the company leases assets to others",
)
_QUERIES = {
    "which bank raised a rate": 0,
    "who runs": 1,
    "income of the year": 2,
    "cash": 3,
    "what does the cat do": 4,
    "how many shares": 5,
}
_PAIRS = (
    ("a dog runs", "the dog runs over grass", 4.5),
    ("cash", "cash equivalents", 4.0),
    ("the cat sleeps", "a cat sleeps in the sun", 3.5),
    ("revenue grew", "costs grew", 2.5),
    ("the loan", "interest on a loan", 2.0),
    ("a quarter", "a period of a year", 1.5),
    ("net income", "a dog", 0.5),
    ("green grass", "shares were sold", 0.0),
)


def nli(count: int) -> Any:
    """Return a data set as the public general data are on the hub."""
    import datasets

    texts = {name: [f"{name} {number}" for number in range(count)] for name in ("anchor", "positive", "negative")}
    return datasets.Dataset.from_dict(texts)


def jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows as JSON lines, texts as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def triplets_file(path: Path, triplets: Triplets) -> Path:
    """Write triplets as a JSONL file."""
    rows = [{"query": item.query, "positive": item.positive, "negatives": list(item.negatives)} for item in triplets]
    return jsonl(path, rows)


def tasks_folder(folder: Path) -> Path:
    """Write a retrieval task of the domain ``finance`` and a similarity task of the domain ``general``."""
    search = folder / "finance" / "Search"
    jsonl(search / "corpus.jsonl", [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(_PASSAGES)])
    jsonl(search / "queries.jsonl", [{"_id": f"q{i}", "text": text} for i, text in enumerate(_QUERIES)])
    judged = [f"q{i}\td{relevant}\t1" for i, relevant in enumerate(_QUERIES.values())]
    jsonl(search / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *judged])
    pairs = [{"sentence1": first, "sentence2": second, "score": score} for first, second, score in _PAIRS]
    jsonl(folder / "general" / "Similar.jsonl", pairs)
    return folder
