"""Finding the tasks in a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.data.readers.columns import is_triplet
from gaprune.data.readers.judged import is_judged
from gaprune.errors import DataError
from gaprune.evaluation.quality.classification import ClassificationTask
from gaprune.evaluation.quality.files import read_records
from gaprune.evaluation.quality.pairs import load_pairs
from gaprune.evaluation.quality.retrieval import RetrievalTask
from gaprune.evaluation.quality.triplets import TripletTask
from gaprune.util.progress import say

if TYPE_CHECKING:
    from gaprune.evaluation.quality.task import Task

_LAYOUTS = (
    "A task is a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv, or what MS MARCO calls them (retrieval), "
    "a folder with train.jsonl and test.jsonl (classification), or a .jsonl file of sentence1, sentence2, score or of "
    "query, positive, negative."
)


_MISTAKEN = (".jsonl", ".jsonl.gz", ".json")
"""Ends of names, in any case, of files that may be meant as tasks."""


def find_tasks(folder: Path) -> list[Task]:
    """Read and check every task in ``folder``, ordered by name.

    Tasks are at ``folder/TASK`` or ``folder/DOMAIN/TASK``, or ``folder`` is a task itself. The domain is the name of
    the folder ``DOMAIN``, otherwise empty. Hidden files and files that are not ``.jsonl`` are ignored; of those
    that may be meant, that is said.

    Raises:
        DataError: If there is no task, a folder is not a task, or a file of a task cannot be used.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise DataError("this folder does not exist.", "Name a folder of evaluation tasks.", source=folder)
    if _is_task(folder):
        return [_load(folder, "")]
    tasks = [task for entry in _entries(folder) for task in _tasks_of_entry(entry)]
    if not tasks:
        raise DataError("the folder holds no task.", _LAYOUTS, source=folder)
    for (domain, name), count in Counter((task.domain, task.name) for task in tasks).items():
        if count > 1:
            raise DataError(f"two tasks are named {name!r}.", "Rename one of them.", source=folder / domain)
    return tasks


def _tasks_of_entry(entry: Path) -> list[Task]:
    """Return ``entry`` as a task, or the tasks in it if it is a domain."""
    if _is_task(entry):
        return [_load(entry, "")]
    members = _entries(entry)
    if not members:
        raise DataError("the folder holds no task.", _LAYOUTS, source=entry)
    for member in members:
        if not _is_task(member):
            raise DataError("the folder is not an evaluation task.", _LAYOUTS, source=member)
    return [_load(member, entry.name) for member in members]


def _entries(folder: Path) -> list[Path]:
    """Return the folders and ``.jsonl`` files in ``folder``."""
    if not folder.is_dir():
        raise DataError("this is neither a folder nor a .jsonl file.", _LAYOUTS, source=folder)
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    mistaken = [path for path in found if path.is_file() and path.name.lower().endswith(_MISTAKEN)]
    skipped = [path.name for path in mistaken if path.suffix != ".jsonl"]
    if skipped:
        say(f"{folder}: not read as tasks, because their names do not end in .jsonl: {', '.join(skipped)}.")
    return [path for path in found if path.is_dir() or path.suffix == ".jsonl"]


def _is_retrieval(folder: Path) -> bool:
    return is_judged(folder) or any((folder / name).exists() for name in ("queries.jsonl", "qrels"))


def _is_classification(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("train.jsonl", "test.jsonl"))


def _is_task(path: Path) -> bool:
    if path.is_dir():
        return _is_retrieval(path) or _is_classification(path)
    return path.suffix == ".jsonl"


def _load(path: Path, domain: str) -> Task:
    path = path.resolve() if path.name in ("", "..") else path
    if path.is_dir():
        return (RetrievalTask if _is_retrieval(path) else ClassificationTask).load(path, domain)
    first = next(read_records(path))
    if {"sentence1", "sentence2", "score"} & first.fields.keys():
        return load_pairs(path, domain)
    if is_triplet(first):
        return TripletTask.load(path, domain)
    raise first.error(f"the columns ({first.columns}) do not match any evaluation task.", _LAYOUTS)
