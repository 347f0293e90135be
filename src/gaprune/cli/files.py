"""What is wrong with the files that a command reads, before PyTorch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from gaprune.config.data import DataReading
from gaprune.config.options import CommandOptions
from gaprune.config.shrink import ShrinkOptions

Named = TypeVar("Named", bound=str | Path | None)


def named(model: Named) -> Named:
    """Return the name of a model, or ``None``; a path must exist.

    Raises:
        ModelError: If there is no such folder.
    """
    from gaprune.models.load import check_named

    if model is not None:
        check_named(model)
    return model


def check_files(asked: CommandOptions) -> None:
    """Refuse triplets, texts, tasks and parents that are not there, and triplets that cannot be used.

    Of triplets the first records are read: a wrong column or format is known within a second.

    Raises:
        GapruneError: One of its kinds, naming the file and the line.
    """
    from gaprune.data.documents.read import holds_documents
    from gaprune.data.read import check_source
    from gaprune.data.readers.files import missing
    from gaprune.evaluation.quality.discovery import find_tasks

    domain, general, texts, tasks, parent = (
        getattr(asked, option, None) for option in ("domain", "general", "texts", "tasks", "parent")
    )
    named(parent)
    if texts is not None and not Path(texts).expanduser().exists():
        raise missing(Path(texts), "documents or triplets")
    if tasks is not None and not Path(tasks).exists():
        find_tasks(Path(tasks))
    if not isinstance(asked, DataReading):
        return
    if domain is not None and not (isinstance(asked, ShrinkOptions) and holds_documents(domain, asked.columns)):
        check_source(domain, asked.columns, asked.subset, asked.split, skip_empty=asked.skip_empty)
    if general is not None:
        check_source(general, asked.general_columns, asked.general_subset, asked.general_split, prefix="general_")
