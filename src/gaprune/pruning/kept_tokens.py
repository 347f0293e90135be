"""Which tokens are kept: those that texts use, and those that the model and its tokenizer need for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from gaprune.errors import ConfigError
from gaprune.models.vocabulary import Vocabulary, vocabulary
from gaprune.pruning.token_needs import TokenNeeds, token_needs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH = 64


def used_tokens(model: SentenceTransformer, texts: Iterable[str], prompts: Iterable[str] = ()) -> Counter[int]:
    """Return how often each token occurs in ``texts``, by id.

    Every text is split whole, however long, and once behind each prompt beside once alone, as the last token of a
    prompt may take in the first characters of a text.

    Args:
        model: Its own preprocessing is used, with special tokens and chat template where it has them.
        texts: Read once.
        prompts: Others than the model's own.
    """
    prompts = dict.fromkeys(["", *filter(None, model.prompts.values()), *prompts])
    counts: Counter[int] = Counter()
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        for prompt in prompts:
            counts.update(_ids(model, batch, prompt))
    return counts


def prompt_tokens(model: SentenceTransformer) -> set[int]:
    """Return the ids of the tokens that an empty text needs, alone and behind each prompt of the model."""
    return set(used_tokens(model, [""]))


def _ids(model: SentenceTransformer, texts: list[str], prompt: str) -> list[int]:
    whole = {"truncation": False, "verbose": False}  # no warning that a text is longer than the model's limit
    features = model.preprocess(texts, prompt=prompt or None, processing_kwargs={"text": whole})
    ids = features["input_ids"]
    mask = features.get("attention_mask")  # absent where texts are laid end to end without padding
    flat: list[int] = (ids if mask is None else ids[mask.bool()]).flatten().tolist()
    return flat


@dataclass(frozen=True)
class VocabularyCut:
    """Which rows of an embedding table are kept, and why.

    Args:
        rows: Rows of the parent's table.
        kept: The parent's ids of the kept rows, in the order of their new ids.
        reasons: Number of rows kept by the first reason that applies: ``special`` (special and added tokens, and what
            a configuration names), ``prompts`` (of the model), ``fallback`` (bytes or characters that spell any text),
            ``asked``, and ``merges`` (the intermediate results of BPE on its way to these).
        rowless: Tokens of the parent's tokenizer that its table has no row for. No text with them could be embedded;
            they are removed too.
    """

    rows: int
    kept: tuple[int, ...] = field(repr=False)
    reasons: Mapping[str, int]
    rowless: tuple[str, ...] = ()

    @property
    def removed(self) -> int:
        """Number of removed rows."""
        return self.rows - len(self.kept)

    @property
    def sparsity(self) -> float:
        """Fraction of the rows that is removed."""
        return self.removed / self.rows


def close_vocabulary(model: SentenceTransformer, keep: Collection[int]) -> VocabularyCut:
    """Return which tokens must be kept so that those of ``keep`` come out as before and every text has tokens.

    Raises:
        ModelError: If the model's vocabulary cannot be cut.
        ConfigError: If an id is none of the table's.
    """
    place = vocabulary(model)
    return _Closure(model, place, keep).cut()


class _Closure:
    """Kept ids, each counted under the first reason that keeps it."""

    def __init__(self, model: SentenceTransformer, place: Vocabulary, keep: Collection[int]) -> None:
        unknown = sorted(each for each in keep if not 0 <= each < place.rows)
        if unknown:
            raise ConfigError(
                f"The token id {unknown[0]} is not a row of the model's table of {place.rows}.",
                "Give ids that the model's own tokenizer counted.",
            )
        self._place = place
        self._tokens = {each: token for token, each in place.tokens.items()}
        self._needs: TokenNeeds = token_needs(place)
        self._reasons: dict[int, str] = {}
        self._add("special", self._needs.special)
        self._add("prompts", prompt_tokens(model))
        self._add("fallback", self._needs.fallback)
        self._add("merges", self.ways(list(self._reasons)))
        self._add("asked", keep)
        self._add("merges", self.ways(list(self._reasons)))

    def __len__(self) -> int:
        return len(self._reasons)

    def __contains__(self, token_id: object) -> bool:
        return token_id in self._reasons

    def _add(self, reason: str, ids: Collection[int]) -> None:
        for each in ids:
            self._reasons.setdefault(each, reason)

    def ways(self, ids: Collection[int]) -> set[int]:
        """Return what the tokenizer passes through on its way to ``ids``, except to special tokens, found whole."""
        special = self._needs.special
        return self._needs.way_to(self._tokens[each] for each in ids if each in self._tokens and each not in special)

    def fit(self, token_id: int, budget: int) -> None:
        """Keep ``token_id`` with all that is on its way, if the budget has room."""
        new = {token_id, *self.ways([token_id])} - self._reasons.keys()
        if len(self) + len(new) <= budget:
            self._add("asked", [token_id])
            self._add("merges", new)

    def cut(self) -> VocabularyCut:
        """Return the decision: tokens in the parent's order, then rows without a token that a configuration names."""
        kept = sorted(self._reasons, key=lambda each: (each not in self._tokens, each))
        names = ("special", "prompts", "fallback", "asked", "merges")
        found = list(self._reasons.values())
        rows = self._place.rows
        rowless = tuple(self._tokens[each] for each in sorted(self._tokens) if each >= rows)
        return VocabularyCut(rows, tuple(kept), {name: found.count(name) for name in names}, rowless)


def rank_tokens(model: SentenceTransformer, counts: Mapping[int, int], sparsity: float) -> VocabularyCut:
    """Return the decision that removes the fraction ``sparsity`` of the rows, of the least frequent tokens.

    Tokens that the model needs are always kept. Then tokens are kept by falling count while there is room, each with
    its merges, the lower id first among equals (tokenizers number by frequency, which orders tokens never seen).

    Raises:
        ModelError: If the model's vocabulary cannot be cut.
        ConfigError: If ``sparsity`` is out of range, or leaves no room for what the model needs.
    """
    if not 0 <= sparsity < 1:
        raise ConfigError(f"vocabulary: sparsity {sparsity} is outside 0 to 1.", "Use a fraction such as 0.5.")
    place = vocabulary(model)
    closure = _Closure(model, place, ())
    budget = place.rows - round(sparsity * place.rows)
    if len(closure) > budget:
        raise ConfigError(
            f"vocabulary: sparsity {sparsity} leaves {budget} of {place.rows} rows, and {len(closure)} are needed for"
            " special tokens, prompts and to spell texts.",
            f"Ask for at most {(place.rows - len(closure)) / place.rows:.4f}.",
        )
    tokens = sorted(each for each in place.tokens.values() if each < place.rows)
    for each in sorted(tokens, key=lambda each: -counts.get(each, 0)):  # stable: equals by id
        if len(closure) == budget:
            break
        if each not in closure:
            closure.fit(each, budget)
    return closure.cut()
