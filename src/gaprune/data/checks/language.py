"""Texts in a language that the model's tokenizer does not know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Characters that stand for a syllable or a word, or scripts without spaces: Thai, Khmer, Hangul, kana, Han."""

_WORD = re.compile(rf"[^\W\d_{_UNSPACED}]+")
_RUN = re.compile(rf"[{_UNSPACED}]+")

_FEWEST, _MOST = 200, 5000
"""Words from which on a tokenizer is judged, and how many are read at most."""

_LETTERS, _SPLIT = 3.2, 1 / 3
"""Letters per token below which, and share of split words above which, a tokenizer does not know a language.

Measured with MiniLM on 2,000 to 5,000 words each: English finance 4.8 letters and 5 % split, general text 4.5 and 6 %,
texts of chemistry 3.6 and 20 %; French 3.0 and 46 %, German 2.7 and 64 %, Polish 2.2 and 81 %, and twelve other
languages between 1.1 and 2.8 letters, 49 % or more of them split. Bare names of molecules (2.2, 49 %) look like a
language too. With the multilingual tokenizer of Gemma 3 a few sentences of German have 4.3 letters, of Polish 3.4.
"""

_TOKENS, _UNKNOWN = 1.5, 0.05
"""Tokens per character in scripts without spaces, and share of unknown tokens, above which a language is not known.

Chinese has 0.6 tokens per character and none unknown with Gemma 3, and 58 % unknown with MiniLM (Japanese 30 %).
"""


def language_problems(model: SentenceTransformer, texts: Iterable[str], name: str) -> list[str]:
    """Return a sentence if the tokenizer of ``model`` splits the words of ``texts`` into very many or unknown tokens.

    Args:
        model: The model; one without a tokenizer is not judged.
        texts: Texts of one set.
        name: Name of the set in the sentence.
    """
    tokenizer: Any = getattr(model, "tokenizer", None)
    distinct = list(dict.fromkeys(texts))
    some = distinct[:: max(1, len(distinct) // 500)]
    words, runs = ([found for text in some for found in kind.findall(text)][:_MOST] for kind in (_WORD, _RUN))
    is_unspaced = sum(map(len, runs)) > sum(map(len, words))
    judged = runs if is_unspaced else words
    if tokenizer is None or (sum(map(len, judged)) if is_unspaced else len(judged)) < _FEWEST:
        return []
    tokens, unknown = _tokens(tokenizer, judged)
    count, characters = sum(tokens), sum(map(len, judged))
    split = sum(each > 1 for each in tokens) / len(judged)
    said = ""
    if unknown > _UNKNOWN * count:
        said = f"{unknown / count:.0%} of the tokens of its words are unknown ones"
    elif is_unspaced and count > _TOKENS * characters:
        said = f"it splits a character into {count / characters:.1f} tokens"
    elif not is_unspaced and characters < _LETTERS * count and split > _SPLIT:
        said = f"it splits {split:.0%} of the words, into {count / len(judged):.1f} tokens a word on average"
    problem = (
        f"{name}: the tokenizer of this model hardly knows the words of these texts: {said}. If they are in another "
        "language than those it was trained on, a multilingual model is the better parent."
    )
    return [problem] if said else []


def _tokens(tokenizer: Any, words: Sequence[str]) -> tuple[list[int], int]:
    """Return the number of tokens of each word, and how many of all tokens are unknown."""
    from transformers import PreTrainedTokenizerBase

    spaced = [f" {each}" for each in words]
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        ids, unknown = tokenizer(spaced, add_special_tokens=False)["input_ids"], tokenizer.unk_token_id
    else:
        ids = [each.ids for each in tokenizer.encode_batch(spaced, add_special_tokens=False)]
        unknown = tokenizer.token_to_id("[UNK]")
    return list(map(len, ids)), sum(each.count(unknown) for each in ids)
