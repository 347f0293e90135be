"""The data stage of ``gaprune shrink``: triplets, texts and held-out queries, from whatever the user has."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Self

from gaprune.config.data import DataReading
from gaprune.data.checks.check import check
from gaprune.data.documents.from_texts import triplets_from_texts
from gaprune.data.documents.passages import sentences
from gaprune.data.documents.read import holds_documents, refuse_reading
from gaprune.data.held_out import FEWEST_TO_JUDGE, MOST_QUERIES, hold_out_queries, too_few, write_retrieval_task
from gaprune.data.read import read_domain, read_general
from gaprune.data.triplets import Triplets, write_triplets
from gaprune.data.words import normalise
from gaprune.errors import DataError
from gaprune.util.files import write_text
from gaprune.util.progress import say
from gaprune.util.records import Record

_SUMMARY = "data.json"


class DomainData(Record):
    """What the data stage made.

    Args:
        domain: Triplets to learn from.
        general: General triplets to learn from.
        texts: Folder of the texts of the domain for distillation: the triplets to learn from, whose queries are read
            as queries, and the other passages. Passages with a held-out query as a sentence are left out.
        tasks: Folder of held-out retrieval tasks.
        training_triplets: Number of triplets to learn from.
        held_out_queries: Number of held-out queries of the domain.
        text_count: Number of texts.
        is_labelled: Whether the user gave triplets; otherwise they were made from documents.
        warnings: What is wrong with the data, but does not stop a run.
    """

    domain: Path
    general: Path
    texts: Path
    tasks: Path
    training_triplets: int
    held_out_queries: int
    text_count: int
    is_labelled: bool
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what the stage made in ``folder``, wherever the folder lies now."""
        content = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
        return cls.model_validate({**content, **_places(folder)})


def prepare_domain(
    folder: Path,
    domain: str | Path,
    general: str | Path,
    *,
    held_out: float,
    seed: int,
    reading: DataReading,
) -> None:
    """Write triplets, texts and held-out tasks to ``folder``; :meth:`DomainData.read` reads them.

    Args:
        folder: Where to write.
        domain: Triplets, or plain documents, from which triplets are made.
        general: General triplets.
        held_out: Share of the triplets whose queries are held out.
        seed: Seed of every draw.
        reading: Which columns and parts of triplets are read.

    Raises:
        DataError: If the data cannot be used, or are too few to hold out any query.
    """
    is_labelled = not holds_documents(domain, reading.columns)
    if not is_labelled:
        refuse_reading(domain, reading)
    triplets = read_domain(domain, reading) if is_labelled else _from_documents(domain, seed)
    others = read_general(
        general, columns=reading.general_columns or None, subset=reading.general_subset, split=reading.general_split
    )
    problems = check(triplets, general=others, made=not is_labelled)
    if problems.unusable:
        raise DataError(
            f"the data cannot be used as they are: {' '.join(problems.unusable)}",
            "Correct or remove these triplets.",
            source=domain,
        )
    training, queries = hold_out_queries(triplets, share=held_out, most=MOST_QUERIES, seed=seed)
    training_general, general_queries = hold_out_queries(others, share=held_out, most=MOST_QUERIES, seed=seed)
    warnings = [] if len(queries) >= FEWEST_TO_JUDGE else [too_few(len(queries))]
    places = _places(folder)
    asked = {normalise(item.query) for item in (*queries, *general_queries)}
    write_triplets(training, places["domain"])
    write_triplets(_without_queries(training_general, asked), places["general"])
    texts = _write_texts(places["texts"], _without_sentences(training, asked), triplets, asked)
    for name, held, all_triplets in (("domain", queries, triplets), ("general", general_queries, others)):
        passages = (passage for item in all_triplets for passage in item.passages)
        write_retrieval_task(places["tasks"] / name / "HeldOut", held, passages)
    summary = {
        "training_triplets": len(training),
        "held_out_queries": len(queries),
        "text_count": texts,
        "is_labelled": is_labelled,
        "warnings": [*warnings, *(_without_folder(each, domain) for each in problems.problems)],
    }
    write_text(folder / _SUMMARY, json.dumps(summary, indent=2))


def _without_folder(said: str, domain: str | Path) -> str:
    """Return a problem of the data with the names of files in place of paths, because it is published with a model."""
    parent = Path(domain).expanduser().parent
    return said.replace(f"{parent}{os.sep}", "") if parent.name else said


def _places(folder: Path) -> dict[str, Path]:
    files = {"domain": "domain.jsonl", "general": "general.jsonl", "texts": "texts", "tasks": "tasks"}
    return {name: folder / file for name, file in files.items()}


def _from_documents(domain: str | Path, seed: int) -> Triplets:
    made = triplets_from_texts(domain, seed=seed)
    kinds = ", ".join(f"{number:,} by {kind}" for kind, number in made.report.made.items() if number)
    say(f"{domain} holds documents: {len(made.triplets):,} triplets were made from them ({kinds}).")
    return made.triplets


def _without_queries(triplets: Triplets, asked: Collection[str]) -> Triplets:
    """Return the triplets that neither ask one of these normalised queries nor have it as a sentence of a passage."""
    return Triplets(
        [item for item in _without_sentences(triplets, asked) if normalise(item.query) not in asked], triplets.name
    )


def _without_sentences(triplets: Triplets, asked: Collection[str]) -> Triplets:
    """Return the triplets without passages of which one of these normalised queries is a sentence.

    Distillation makes queries of the sentences of passages, so such a passage would bring the query back.
    """
    return Triplets(
        [
            replace(item, negatives=tuple(each for each in item.negatives if not _says(each, asked)))
            for item in triplets
            if not _says(item.positive, asked)
        ],
        triplets.name,
    )


def _says(passage: str, asked: Collection[str]) -> bool:
    """Return whether a passage, or one of its sentences, is one of these normalised queries."""
    spans = [(0, len(passage)), *sentences(passage)]
    return any(normalise(passage[start:end]) in asked for start, end in spans)


def _write_texts(folder: Path, pairs: Triplets, triplets: Triplets, asked: Collection[str]) -> int:
    """Write the texts to distil on: pairs, and the other passages without these queries; return their number."""
    write_triplets(pairs, folder / "pairs.jsonl")
    known = {text for item in pairs for text in (item.query, *item.passages)}
    passages = dict.fromkeys(text for item in triplets for text in item.passages if text not in known)
    others = [each for each in passages if not _says(each, asked)]
    if others:
        lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in others)
        write_text(folder / "passages.jsonl", "".join(lines))
    return len(known) + len(others)
