"""Reading Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gaprune.errors import DataError
from gaprune.util.json_lines import Record
from gaprune.util.text_files import refuse_pointer


def read_parquet(path: Path) -> Iterator[Record]:
    """Yield the rows of a Parquet file.

    Raises:
        DataError: If the file is not readable Parquet.
    """
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise DataError(f"has several columns {twice[0]!r}.", "Give every column its own name.", source=path)
            for batch in table.iter_batches():
                for fields in batch.to_pylist():
                    number += 1
                    yield Record(path, number, fields, is_line=False)
    except (pyarrow.ArrowException, OSError) as error:
        refuse_pointer(path)
        reason = str(error).splitlines()[0]
        remedy = "Write the file again, or give the triplets as .jsonl."
        raise DataError(f"is not a readable Parquet file: {reason}", remedy, source=path) from error
