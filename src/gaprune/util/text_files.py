"""Reading text: encoding by the byte order mark, compression by the ending of the name, every fault by its line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaprune.errors import DataError

COMPRESSED = (".gz", ".bz2", ".zst")
"""Endings of compressed files, which are read like others."""


_POINTER = b"version https://git-lfs"


def is_pointer(path: Path) -> bool:
    """Return whether a file stands for one that Git LFS keeps, as in a clone that was made without it."""
    if not path.is_file():
        return False
    with path.open("rb") as content:
        return content.read(len(_POINTER)) == _POINTER


def refuse_pointer(path: Path) -> None:
    """Refuse a file of :func:`is_pointer`.

    Raises:
        DataError: If it is one.
    """
    if is_pointer(path):
        raise DataError("is a pointer of Git LFS, not the file itself.", "Run git lfs pull in the clone.", source=path)


def format_of(path: Path) -> str:
    """Return the ending that names the format, in lower case: ``.jsonl``, of ``a.jsonl.gz`` too."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in COMPRESSED else ending


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield number and text of every line of a file in UTF-8 (or UTF-16 with a byte order mark), with line ends.

    Only ``\n`` ends a line: JSON texts may contain U+2028 and similar characters.

    Raises:
        DataError: If the file cannot be read, or a line is not in that encoding.
    """
    number = 0
    try:
        refuse_pointer(path)
        with _opened(path) as stream:
            if stream.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                lines: Iterator[str] = io.TextIOWrapper(stream, "utf-16", newline="\n")
            else:  # files that were put together have several marks
                lines = (raw.decode().removeprefix("\ufeff") for raw in stream)
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise _wrong_encoding("holds the character NUL, as UTF-16 and binary files do", path, number)
                yield number, line
    except UnicodeDecodeError as error:
        wanted = "UTF-16" if error.encoding.startswith("utf-16") else "UTF-8"
        problem = f"is not {wanted} (byte 0x{error.object[error.start]:02x})"
        raise _wrong_encoding(problem, path, number + 1) from error
    except UnicodeError as error:
        raise _wrong_encoding(f"cannot be decoded: {error}", path, number + 1) from error
    except OSError as error:
        reason = error.strerror or error
        remedy = "Check that the file is complete, and its permissions."
        raise DataError(f"cannot be read: {reason}.", remedy, source=path) from error


def read_text(path: Path) -> str:
    """Return the text of a file without its byte order mark; line ends are kept.

    Raises:
        DataError: As :func:`read_lines`.
    """
    return "".join(line for _, line in read_lines(path))


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file, and decompress it if its ending says that it is compressed."""
    if path.suffix.lower() not in COMPRESSED:
        with path.open("rb") as stream:
            yield stream
        return
    import pyarrow as pa  # type: ignore[import-untyped]

    with pa.input_stream(path) as compressed:
        yield io.BufferedReader(compressed)


def _wrong_encoding(problem: str, path: Path, line: int) -> DataError:
    return DataError(
        f"{problem}.", "Save the file again with the encoding UTF-8 (in Excel: CSV UTF-8).", source=path, line=line
    )
