"""Reading PDF, by pypdf (an extra): paragraphs by page."""

from __future__ import annotations

import re
from pathlib import Path

from gaprune.data.documents.markdown import Block
from gaprune.errors import DataError, require_extra

_HYPHEN = re.compile(r"(\w)-\n(\w)")
"""A word that is divided at the end of a line."""

_PARAGRAPH = re.compile(r"\n\s*\n|(?<=[.!?:])\n(?=[A-Z])")
"""The end of a paragraph: an empty line, or a sentence that ends with its line before a capital letter."""


def read_pdf(path: Path) -> tuple[str, list[Block]]:
    """Return the title (or an empty text) and the paragraphs; the line of a paragraph is the number of its page.

    Raises:
        MissingExtraError: If pypdf is not installed.
        DataError: If the file cannot be read, is encrypted, or holds no text (a scan).
    """
    require_extra("reading PDF", "pdf", "pypdf")
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(path)
        if reader.is_encrypted:
            raise DataError("is encrypted.", "Save it without a password.", source=path)
        title = str((reader.metadata and reader.metadata.title) or "")
        pages = [page.extract_text() for page in reader.pages]
    except (PyPdfError, OSError, ValueError) as error:
        raise DataError(
            f"cannot be read as PDF: {error}", "Save it again, or convert it to text.", source=path
        ) from error
    blocks = [
        Block(number, 0, " ".join(paragraph.split()))
        for number, page in enumerate(pages, start=1)
        for paragraph in _PARAGRAPH.split(_HYPHEN.sub(r"\1\2", page))
        if paragraph.strip()
    ]
    if not blocks:
        raise DataError("holds no text; it may be a scan.", "Recognise its text first (OCR).", source=path)
    return " ".join(title.split()), blocks
