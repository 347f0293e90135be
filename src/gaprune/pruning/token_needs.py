"""Which tokens a tokenizer needs: special tokens, fallback tokens, and the merges that lead to other tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gaprune.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def named_ids(network: PreTrainedModel) -> set[int]:
    """Return the token ids that the configurations of ``network`` name, rows of its table or not."""
    configs = [network.config, getattr(network, "generation_config", None)]
    return {
        each
        for config in configs
        if config is not None
        for _, value in _named(config)
        for each in (value if isinstance(value, list) else [value])
    }


def renumber(config: PreTrainedConfig | GenerationConfig, new: Mapping[int, int]) -> None:
    """Give the token ids that ``config`` names their new numbers, in place.

    Args:
        config: A configuration; its text part, where it has one, is renumbered too.
        new: New ids by old. A number without a new id is not a row of the parent, as the defaults of a family often
            are not; it is left as it is.
    """
    for part in _parts(config):
        for name, value in list(_own(part)):
            many = isinstance(value, list)
            setattr(part, name, [new.get(each, each) for each in value] if many else new.get(value, value))


def _named(config: PreTrainedConfig | GenerationConfig) -> Iterator[tuple[str, Any]]:
    for part in _parts(config):
        yield from _own(part)


def _own(config: PreTrainedConfig | GenerationConfig) -> Iterator[tuple[str, Any]]:
    for name, value in vars(config).items():
        if name.endswith(("_token_id", "_token_ids")) and value is not None:
            yield name, value


def _parts(config: PreTrainedConfig | GenerationConfig) -> list[PreTrainedConfig | GenerationConfig]:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return [config] if text is config else [config, text]


@dataclass(frozen=True, eq=False)
class TokenNeeds:
    """What must be kept beside the tokens that are asked for.

    Args:
        special: Ids of special and added tokens, and of those that a configuration names.
        fallback: Ids that spell what no longer has a token of its own: bytes where the tokenizer falls back on them,
            else single characters; and what keeps the score of an unknown character as it was.
        ids: Ids by token.
        ranks: Place of each merge of BPE in their order; empty for other types.
        suffix: What BPE puts behind the last character of a word.
    """

    special: frozenset[int]
    fallback: frozenset[int]
    ids: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]
    suffix: str

    def way_to(self, tokens: Iterable[str]) -> set[int]:
        """Return the ids of what a tokenizer passes through on its way to each of ``tokens``.

        BPE builds a token merge by merge, and each result must be a token. That the merges of a part of a word are
        those of the part alone makes this sufficient for every text in which the token came out. Other types find
        their tokens whole.
        """
        if not self.ranks:
            return set()
        return {self.ids[part] for token in tokens for part in self._merged(token) if part in self.ids}

    def _merged(self, token: str) -> Iterator[str]:
        """Yield the characters of ``token`` and every result of the merges over them, in their order."""
        ends = bool(self.suffix) and token.endswith(self.suffix) and len(token) > len(self.suffix)
        symbols = [*token.removesuffix(self.suffix)] if ends else [*token]
        if ends:
            symbols[-1] += self.suffix
        yield from symbols
        while len(symbols) > 1:
            rank, at = min((self.ranks.get(pair, len(self.ranks)), at) for at, pair in enumerate(pairwise(symbols)))
            if rank == len(self.ranks):
                return
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            yield symbols[at]


def token_needs(place: Vocabulary) -> TokenNeeds:
    """Return what the tokenizer and the configurations at ``place`` cannot do without."""
    content = json.loads(place.tokenizer.backend_tokenizer.to_str())
    pieces = content["model"]
    suffix = pieces.get("end_of_word_suffix") or ""
    merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in pieces.get("merges", ())]
    special = {
        *range(place.fixed),
        *(token["id"] for token in content["added_tokens"]),
        *_processor_ids(content["post_processor"] or {}),
        *place.tokenizer.all_special_ids,
        *named_ids(place.network),
    }
    unknown = pieces.get("unk_token")
    if unknown is not None and unknown in place.tokens:
        special.add(place.tokens[unknown])
    if pieces.get("unk_id") is not None:
        special.add(pieces["unk_id"])
    return TokenNeeds(
        special=frozenset(each for each in special if 0 <= each < place.rows),
        fallback=frozenset(each for each in _fallback(pieces, place.tokens, suffix) if each < place.rows),
        ids={token: each for token, each in place.tokens.items() if each < place.rows},
        ranks={(left, right): rank for rank, (left, right) in enumerate(merges)},
        suffix=suffix,
    )


def _processor_ids(processor: Mapping[str, Any]) -> Iterator[int]:
    """Yield the ids that a post-processor puts around texts."""
    for inner in processor.get("processors", ()):
        yield from _processor_ids(inner)
    if processor.get("type") == "TemplateProcessing":
        for token in processor["special_tokens"].values():
            yield from token["ids"]
    for end in ("cls", "sep"):
        if end in processor:
            yield processor[end][1]


def _fallback(pieces: Mapping[str, Any], ids: Mapping[str, int], suffix: str) -> set[int]:
    prefix = pieces.get("continuing_subword_prefix") or ""
    if pieces.get("byte_fallback"):
        found = {each for token, each in ids.items() if _BYTE.fullmatch(token)}
    else:
        found = {each for token, each in ids.items() if len(token.removeprefix(prefix).removesuffix(suffix)) == 1}
    if pieces["type"] == "Unigram":
        # An unknown character scores a little less than the least likely piece. Without that piece it would score
        # more, and win over pieces; with it, an unknown piece never beats what the parent weighed in its place.
        least = min(pieces["vocab"], key=lambda piece: piece[1])
        found.add(ids[least[0]])
    return found
