"""Texts without labels to distil on: passages, and the queries that are made of them."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gaprune.config.data import LONGEST
from gaprune.data.documents.passages import cut, sentences
from gaprune.data.documents.read import Document, document_files, holds_documents, read_documents
from gaprune.data.read import read_records, read_triplets
from gaprune.data.readers.columns import is_triplet
from gaprune.data.triplets import Triplet
from gaprune.errors import DataError
from gaprune.models.prompts import Role
from gaprune.util.progress import say

_SHORTEST = 5
"""Smallest number of words of a passage; shorter paragraphs are joined."""

_SPAN = (3, 10)
"""Smallest and largest number of words of a span that is used as a query, and at most half of the passage."""

SPANS = 4
"""Number of spans of a passage that are used as queries, after all of its sentences."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A passage, what can be used as its queries (headings and sentences), and the document that it is from."""

    passage: str
    queries: tuple[str, ...]
    document: str

    def query(self, number: int) -> str:
        """Return its query for a pass over the texts: one of its own, then spans of its words, then the same again."""
        turn = number % (len(self.queries) + SPANS)
        if turn < len(self.queries):
            return self.queries[turn]
        words = self.passage.split()
        draw = random.Random(f"{turn} {self.passage}")  # noqa: S311 (no secret)
        least, most = _SPAN
        length = min(draw.randint(least, max(least, min(most, len(words) // 2))), len(words))
        start = draw.randint(0, len(words) - length)
        return " ".join(words[start : start + length])


@dataclass(frozen=True)
class Texts:
    """Passages of a domain, without labels.

    Args:
        name: Their name in reports.
        entries: The passages; at least one.
    """

    name: str
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def roles(self) -> Iterator[tuple[Role, str]]:
        """Yield every text that gets a prompt, with its role."""
        for entry in self.entries:
            yield "passage", entry.passage
            for query in entry.queries:
                yield "query", query

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of passages and queries in order."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(json.dumps([entry.passage, *entry.queries], ensure_ascii=False).encode())
        return digest.hexdigest()

    def hold_out(self, count: int, *, seed: int) -> tuple[Texts, Texts]:
        """Return the texts to train on and about ``count`` others: whole documents, or passages of too few documents.

        Raises:
            DataError: If there are fewer than two passages.
        """
        if len(self) < 2:
            raise DataError("holds a single passage.", "Give more text, or hold none out.", source=self.name)
        groups: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            groups[entry.document].append(entry)
        if max(map(len, groups.values())) > count:
            groups = defaultdict(list, {str(number): [entry] for number, entry in enumerate(self.entries)})
        order = list(groups.values())
        random.Random(f"held out {seed}").shuffle(order)  # noqa: S311 (no secret)
        held: list[Entry] = []
        while len(order) > 1 and len(held) + len(order[-1]) <= max(count, 1):
            held += order.pop()
        return Texts(self.name, tuple(entry for group in order for entry in group)), Texts(self.name, tuple(held))


def read_passages(source: str | Path, *, columns: Mapping[str, str] | None = None, seed: int = 0) -> Texts:
    """Read texts as passages: documents, or triplets, of which every text counts.

    Documents (text, Markdown, HTML, PDF, and .jsonl whose lines have a ``text``) are cut into passages of up to 150
    words, without near-duplicates; titles, headings and sentences become queries. Triplets keep their queries, and all
    of their passages are used; a passage in several files has the queries of all of their triplets.

    Args:
        source: A file, or a folder of documents and .jsonl files, subfolders included.
        columns: Columns of triplets, as for :func:`read_triplets`; files that lack them are read by the usual names.
        seed: Seed of the order of the sentences.

    Raises:
        DataError: If there is no such file, a text cannot be read, or there is no passage.
    """
    path = Path(source).expanduser()
    documents: list[Document] = []
    triplets: list[Triplet] = []
    for file in [path] if path.is_file() else document_files(path, kind="text"):
        if holds_documents(file):
            documents += read_documents(file)
        else:
            triplets += read_triplets(file, columns=_mapped(file, columns or {}))
    entries = [*_triplets(triplets, seed), *_documents(documents, source, seed)]
    unique = tuple({entry.passage: entry for entry in reversed(entries)}.values())[::-1]
    if not unique:
        raise DataError("holds no passage.", f"Give texts of {_SHORTEST} words or more.", source=source)
    return Texts(path.resolve().name, unique)


def _mapped(file: Path, columns: Mapping[str, str]) -> Mapping[str, str]:
    """Return the mapping if the first record of a file has one of its columns, or has no names that are known."""
    first = next(iter(read_records(file)), None)
    return columns if first is None or not is_triplet(first) or set(columns.values()) & set(first.fields) else {}


def texts_of_triplets(triplets: Iterable[Triplet], name: str, *, seed: int = 0) -> Texts:
    """Return the texts of triplets, each passage with its own queries."""
    return Texts(name, tuple(_triplets(triplets, seed)))


def _documents(documents: Sequence[Document], source: str | Path, seed: int) -> Iterator[Entry]:
    """Yield the passages of documents, and say how many are left out and why."""
    passages, dropped = cut(documents, shortest=_SHORTEST, longest=LONGEST)
    if dropped:
        kinds = ", ".join(f"{reason} ({number:,})" for reason, number in dropped.items())
        read = f"{len(passages):,} passages of {_SHORTEST} words or more are read"
        say(f"{Path(source).name}: {read}; left out: {kinds}.")
    number = -1
    for passage in passages:
        document = documents[passage.document]
        title = document.title if number != passage.document else ""  # for its first passage alone
        number = passage.document
        headings = [text for text in (title, passage.heading) if text]
        spans = [passage.text[start:end] for start, end in passage.sentences]
        yield _entry(passage.text, headings, spans, f"{document.file} {passage.document}", seed)


def _triplets(triplets: Iterable[Triplet], seed: int) -> Iterator[Entry]:
    queries: dict[str, list[str]] = {}
    for item in triplets:
        queries.setdefault(item.positive, []).append(item.query)
        for negative in item.negatives:
            queries.setdefault(negative, [])
    for passage, own in queries.items():
        yield _entry(passage, own, [passage[start:end] for start, end in sentences(passage)], passage, seed)


def _entry(passage: str, queries: Sequence[str], spans: Sequence[str], document: str, seed: int) -> Entry:
    """Return a passage with its own queries first, then its sentences in random order; one sentence is no query."""
    drawn = random.Random(f"{seed} {passage}").sample(spans, len(spans)) if len(spans) > 1 else []  # noqa: S311
    return Entry(passage, tuple(dict.fromkeys([*queries, *drawn])), document)
