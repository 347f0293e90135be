"""Output folders, which are written beside their place and moved there when they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from gaprune.errors import ModelError, OutputError
from gaprune.evaluation.quality.changed import ChangedQueries
from gaprune.export.model_files import write_model
from gaprune.export.provenance import PROVENANCE_FILE, Provenance
from gaprune.export.reloaded import check_reloaded
from gaprune.util.files import check_parent, temporary_beside

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PAGE_FILE = "report.html"
"""Name of the page in the folder of a model."""
QUERIES_FILE = "queries.json"
"""Name of the file of the queries on the page, whose texts are the user's: never uploaded, like the page."""


def check_destination(out: str | Path, *, overwrite: bool) -> Path:
    """Return ``out`` as a path if a folder can be written there; call it before the expensive work.

    Raises:
        OutputError: If something is there and ``overwrite`` is false or GAPrune did not make it, or the parent folder
            cannot be written.
    """
    out = Path(out).resolve()  # through links, so that a link is kept and its folder replaced
    if out.exists() and not overwrite:
        raise OutputError(
            f"{out} exists.", "Choose another --out (out=...), or replace it with --overwrite (overwrite=True)."
        )
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / PROVENANCE_FILE).is_file())):
        raise OutputError(
            f"{out} is neither empty nor made by GAPrune (no {PROVENANCE_FILE}), so overwrite does not delete it.",
            "Choose another --out (out=...), or delete it yourself.",
        )
    check_parent(out)
    return out


def save(
    model: SentenceTransformer,
    out: str | Path,
    *,
    card: str,
    page: str,
    provenance: Provenance,
    queries: ChangedQueries | None = None,
    overwrite: bool = False,
) -> Path:
    """Write ``model`` as a sentence-transformers folder with safetensors, model card, page and provenance.

    ``queries`` are those that the model answers otherwise than its parent, which are on the page.

    Raises:
        OutputError: If it cannot be written, the saved weights have other zeros than the provenance says, or what was
            saved is another model than the one in memory when it is loaded again.
    """
    with writing(out, overwrite=overwrite) as partial:
        write_model(model, partial)
        (partial / "README.md").write_text(card, encoding="utf-8")
        (partial / PAGE_FILE).write_text(page, encoding="utf-8")
        provenance.write(partial)
        if queries is not None:
            (partial / QUERIES_FILE).write_text(queries.model_dump_json(indent=2) + "\n", encoding="utf-8")
        check_reloaded(partial, model, provenance)
    return Path(out).resolve()


def read_queries(folder: Path) -> ChangedQueries | None:
    """Return the queries that a model answers otherwise than its parent; ``None`` if none were recorded.

    Raises:
        ModelError: If the file cannot be read.
    """
    path = folder / QUERIES_FILE
    if not path.is_file():
        return None
    try:
        return ChangedQueries.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} is not what GAPrune writes.",
            "Restore the folder, or delete this file: the page can be made without it.",
        ) from error


@contextmanager
def writing(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside ``out`` to fill; it is moved into place at the end of the block.

    So ``out`` is either what it was or complete. If the block fails, what it wrote is deleted. Folder and files have
    the modes that the umask allows.

    Raises:
        OutputError: If ``out`` is taken, or cannot be written.
    """
    out = check_destination(out, overwrite=overwrite)
    try:
        with temporary_beside(out) as partial:
            partial.mkdir()
            yield partial
            mode = partial.stat().st_mode & 0o666  # safetensors writes for the owner alone
            for file in partial.rglob("*"):
                if file.is_file():
                    file.chmod(mode)
            _move(partial, out)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The model cannot be written to {out}: {error}", "Make room, or choose another --out (out=...)."
        ) from error


def _move(partial: Path, out: Path) -> None:
    """Put ``partial`` at ``out``; a folder that was there is kept until its successor has its name."""
    if not out.exists():
        partial.rename(out)
        return
    old = partial.with_name("replaced")
    out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        old.rename(out)
        raise
