"""The data of a distillation on texts: pairs of a query and its passage, in batches of passages of similar length."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.config.recovery import RecoveryOptions
from gaprune.data.checks.statistics import TokenCounter
from gaprune.data.read import read_general
from gaprune.data.triplets import Triplet, Triplets
from gaprune.models.prompts import Role, resolve_prompts
from gaprune.recovery.data import named_data
from gaprune.recovery.texts import Entry, Texts, read_passages, texts_of_triplets
from gaprune.util.progress import quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MOST_HELD_OUT = 256
"""Maximum number of passages that are held out; each comes with one query."""

_WINDOW = 64
"""Batches whose texts are sorted by length together."""


@dataclass(frozen=True)
class _Packed:
    """Pairs in the order of their batches, the tokens of every batch, and those of all queries."""

    pairs: tuple[Triplet, ...] = ()
    batches: tuple[tuple[int, ...], ...] = ()
    tokens: tuple[int, ...] = ()
    query_tokens: int = 0


@dataclass(frozen=True)
class TextData:
    """Texts by their use, and the pairs that are trained on once they are planned.

    Args:
        domain: Texts of the domain to train on.
        general: General texts that are mixed in; ``None`` for none.
        held_out: Texts of the domain that are not trained on; ``None`` for none.
        general_share: Share of general pairs.
        packed: The pairs and batches.
    """

    domain: Texts
    general: Texts | None
    held_out: Texts | None
    general_share: float
    packed: _Packed = field(default_factory=_Packed)

    columns: Mapping[str, Role] = field(default_factory=lambda: {"query": "query", "positive": "passage"})
    """Names of the columns of a data set, in order, with the role of their texts."""

    @classmethod
    def of(cls, domain: Texts, general: Texts | None, options: RecoveryOptions) -> TextData:
        """Return data that are not planned yet, with a share of the domain's passages held out.

        Raises:
            DataError: If there are too few passages to hold any out.
        """
        share = options.share_of_general(named=general is not None)
        held_out = None
        if options.held_out:
            count = min(round(options.held_out * len(domain)), _MOST_HELD_OUT)
            domain, held_out = domain.hold_out(count, seed=options.seed)
        return cls(domain, general if share else None, held_out, share)

    def planned(self, model: SentenceTransformer, tokens: int, options: RecoveryOptions) -> TextData:
        """Return the data with batches of ``tokens`` tokens in all, at least one batch; the same for the same seed."""
        prompts = resolve_prompts(model, query=options.query_prompt, passage=options.passage_prompt)
        counter, most = TokenCounter(model), min(options.max_length or 10**9, model.max_seq_length or 10**9)

        def lengths(texts: Sequence[str], role: Role) -> list[int]:
            with quiet():
                return [min(length, most) for length in counter(texts, prompts.of(role) or "")]

        return replace(self, packed=pack(self._pairs(options), lengths, tokens, options))

    def _pairs(self, options: RecoveryOptions) -> Iterator[Triplet]:
        """Yield pairs without an end: every passage once in a pass, in another order and with another query each time.

        Of every batch in a row, the same number is general, up to rounding.
        """
        domain, due = _passes(self.domain, f"domain {options.seed}"), 0.0
        general = domain if self.general is None else _passes(self.general, f"general {options.seed}")
        while True:
            due += self.general_share
            yield next(general) if due >= 1 else next(domain)
            due -= due >= 1

    @property
    def passes(self) -> float:
        """Passes over the domain's passages."""
        return (1 - self.general_share) * len(self.packed.pairs) / len(self.domain)

    @property
    def tokens_of_a_pass(self) -> float:
        """Tokens of one pass over the domain's passages with its share of general text, by those that are planned."""
        return sum(self.packed.tokens) / self.passes

    @property
    def query_share(self) -> float:
        """Share of the queries in the tokens."""
        return self.packed.query_tokens / sum(self.packed.tokens)

    @property
    def synthetic(self) -> bool:
        """Whether the queries of some passage are all used, so that spans of its words are queries too."""
        return any(self.passes > max(1, len(entry.queries)) for entry in self.domain.entries)

    def tokens_at(self, step: int) -> int:
        """Return the tokens of the batches up to a step."""
        return sum(self.packed.tokens[:step])

    def plan(self, options: RecoveryOptions) -> tuple[Triplets, list[list[int]]]:
        """Return the pairs that are trained on, and the batch of every step as indices."""
        del options
        return Triplets(self.packed.pairs, self.domain.name), [list(batch) for batch in self.packed.batches]

    def held_out_batches(self, options: RecoveryOptions, processes: int) -> tuple[Triplets | None, int]:
        """Return the held-out pairs in batches of equal size, one after another, and that size."""
        if self.held_out is None:
            return None, processes
        pairs = sorted(map(_first_pair, self.held_out.entries), key=lambda pair: len(pair.positive))
        size = max(processes, min(options.batch_size, len(pairs)) // processes * processes)
        whole = len(pairs) // size * size
        return (Triplets(pairs[:whole], self.held_out.name), size) if whole else (None, processes)

    def texts(self, rounds: Iterable[RecoveryOptions]) -> Iterator[tuple[Role, str]]:
        """Yield every text that is embedded, with its role; some texts come more than once."""
        del rounds
        for pair in chain(self.packed.pairs, map(_first_pair, () if self.held_out is None else self.held_out.entries)):
            yield "query", pair.query
            yield "passage", pair.positive

    def as_dict(self) -> Mapping[str, object]:
        """Return names, sizes and fingerprints for the provenance."""
        return named_data("passages", domain=self.domain, general=self.general, held_out=self.held_out) | {
            "general_share": self.general_share,
            "tokens": sum(self.packed.tokens),
            "passes": self.passes,
            "spans_as_queries": self.synthetic,
        }


def _local(source: str | Path | None) -> Path | None:
    """Return the file or folder that a source is; ``None`` if it is none."""
    path = None if source is None else Path(source).expanduser()
    return path if path is not None and path.exists() else None


def read_text_data(options: RecoveryOptions, general: Sequence[Triplet] | None = None) -> TextData:
    """Read the texts that the options name; general triplets given here are used instead of the file of the options.

    Raises:
        DataError: If a file cannot be used, or there is too little text.
    """
    found = None
    if options.share_of_general(named=general is not None or options.general is not None):
        is_part = options.general_subset is not None or options.general_split is not None
        source = None if is_part or general is not None else _local(options.general)
        if source is not None:
            found = read_passages(source, columns=options.general_columns, seed=options.seed)
        else:
            general = general or read_general(
                options.general,
                columns=options.general_columns or None,
                subset=options.general_subset,
                split=options.general_split,
                seed=options.seed,
            )
            found = texts_of_triplets(general, "general", seed=options.seed)
    texts = read_passages(str(options.texts), columns=options.columns, seed=options.seed)
    return TextData.of(texts, found, options)


def pack(
    pairs: Iterator[Triplet],
    lengths: Callable[[Sequence[str], Role], list[int]],
    tokens: int,
    options: RecoveryOptions,
) -> _Packed:
    """Return batches of pairs of similar length, in random order, with ``tokens`` tokens in all.

    Args:
        pairs: The pairs, without an end.
        lengths: Returns the tokens of texts of a role.
        tokens: Tokens of queries and passages; the last batch reaches them.
        options: Options with ``batch_size`` and ``seed``.
    """
    draw = random.Random(f"batches {options.seed}")  # noqa: S311 (no secret)
    known: dict[str, int] = {}
    chosen: list[Triplet] = []
    totals: list[int] = []
    of_queries = 0
    left = tokens
    while left > 0:
        window = list(islice(pairs, _WINDOW * options.batch_size))
        new = list(dict.fromkeys(pair.positive for pair in window if pair.positive not in known))
        known |= zip(new, lengths(new, "passage") if new else (), strict=True)
        queries = lengths([pair.query for pair in window], "query")
        rows = sorted(zip(window, queries, strict=True), key=lambda row: (known[row[0].positive], row[1]))
        parts = [rows[start : start + options.batch_size] for start in range(0, len(rows), options.batch_size)]
        draw.shuffle(parts)
        for part in parts:
            if left > 0:
                chosen += (pair for pair, _ in part)
                totals.append(sum(query + known[pair.positive] for pair, query in part))
                left -= totals[-1]
                of_queries += sum(query for _, query in part)
    size = options.batch_size
    batches = tuple(tuple(range(start, start + size)) for start in range(0, len(chosen), size))
    return _Packed(tuple(chosen), batches, tuple(totals), of_queries)


def _passes(texts: Texts, seed: str) -> Iterator[Triplet]:
    """Yield every passage with a query, then every passage with its next query, and so on, in a random order each."""
    draw = random.Random(seed)  # noqa: S311 (no secret)
    turn = 0
    while True:
        for entry in draw.sample(texts.entries, len(texts)):
            yield Triplet(entry.query(turn), entry.passage)
        turn += 1


def _first_pair(entry: Entry) -> Triplet:
    return Triplet(entry.query(0), entry.passage)
