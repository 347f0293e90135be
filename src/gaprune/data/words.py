"""The words of a text, as search and comparisons count them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["shared_words", "words"]

_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters of scripts without spaces (kana, Han), each of which counts as a word."""

_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


def words(text: str) -> list[str]:
    """Return the words of ``text`` in their order, in one case, without punctuation.

    Where a script has no spaces (Chinese, Japanese), every character is a word.
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def shared_words(left: frozenset[str], right: frozenset[str]) -> float:
    """Return the share of the smaller set of words that the other has too, 0 where one is empty."""
    smaller = min(len(left), len(right))
    return len(left & right) / smaller if smaller else 0.0
