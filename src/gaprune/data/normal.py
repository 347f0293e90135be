"""When two texts are the same text."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["normalise"]

_MARKS = re.compile(
    r"(?!(?<!\w)-\d)"  # the sign of a number stays,
    r"(?!(?<=\d)[.,]\d)"  # and so does what parts its digits
    r"[!\"#&'()*,./:;?@\[\\\]_`{}\-‐‑‒–—…“”„‘’‚«»‹›¿¡·、。，！？：；（）「」『』【】]"  # noqa: RUF001 (they are meant)
)
"""Punctuation that does not change what a text says; signs of currency, percent and mathematics do."""


def normalise(text: str) -> str:
    """Return ``text`` without what does not tell it from another: case, spacing, punctuation.

    Signs, decimal points and symbols (``-5``, ``1.5``, ``5 %``, ``Na+``) are kept. A text of punctuation alone is
    left as it is.
    """
    plain = unicodedata.normalize("NFC", text).casefold()
    return " ".join(_MARKS.sub(" ", plain).split()) or plain.strip()
