"""Comparing texts: their normal form and their words."""

from __future__ import annotations

import re
import unicodedata

_MARKS = re.compile(
    r"(?!(?<!\w)-\d)"  # keep the sign of a number,
    r"(?!(?<=\d)[.,]\d)"  # and the separators between its digits
    r"[!\"#&'()*,./:;?@\[\\\]_`{}\-‐‑‒–—…“”„‘’‚«»‹›¿¡·、。，！？：；（）「」『』【】]"  # noqa: RUF001 (they are meant)
)
"""Punctuation that does not change the meaning of a text; signs of currency, percent and mathematics do."""

_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters of scripts without spaces (kana, Han); each counts as a word."""

_MARKS_OF_LETTERS = "".join(chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
"""Vowel signs and the like, which continue a word and which the regular expression ``\\w`` does not contain."""

_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}](?:[^\W_{_ALONE}]|[{_MARKS_OF_LETTERS}\u200c\u200d])*")


def normalise(text: str) -> str:
    """Return ``text`` without differences of case, spacing and punctuation.

    Signs, decimal points and symbols (``-5``, ``1.5``, ``5 %``, ``Na+``) are kept. A text of punctuation alone is
    returned unchanged.
    """
    plain = unicodedata.normalize("NFC", text).casefold()
    return " ".join(_MARKS.sub(" ", plain).split()) or plain.strip()


def words(text: str) -> list[str]:
    """Return the words of ``text`` in order, in one case and without punctuation.

    In scripts without spaces (Chinese, Japanese) every character is a word.
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def shared_words(left: frozenset[str], right: frozenset[str]) -> float:
    """Return the share of the smaller set of words that the other set contains, 0 if one is empty."""
    smaller = min(len(left), len(right))
    return len(left & right) / smaller if smaller else 0.0
