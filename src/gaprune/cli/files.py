"""What is wrong with the files that a command reads, before PyTorch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from gaprune.config.options import CommandOptions
from gaprune.config.shrink import ShrinkOptions
from gaprune.util.progress import quiet

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

    Triplets are read here and again by the command: what is wrong with them is known within a second.

    Raises:
        GapruneError: One of its kinds, naming the file and the line.
    """
    from gaprune.data.documents.read import holds_documents
    from gaprune.data.read import check_source, read_domain, read_general
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
    with quiet():  # the command itself says what it notices
        if domain is not None and not (isinstance(asked, ShrinkOptions) and holds_documents(domain, asked.columns)):
            check_source(read_domain, domain, asked=asked)
        if general is not None:
            columns, subset, split = (getattr(asked, f"general_{option}") for option in ("columns", "subset", "split"))
            check_source(read_general, general, columns=columns or None, subset=subset, split=split)
