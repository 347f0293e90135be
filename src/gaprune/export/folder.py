"""An output folder is written beside its place and moved there when it is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from gaprune.errors import OutputError
from gaprune.export.provenance import PROVENANCE_FILE, Provenance
from gaprune.util.files import check_parent

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["check_destination", "save", "writing"]


def check_destination(out: str | Path, *, overwrite: bool) -> Path:
    """Return ``out`` as a path if a folder can be written there; call it before the expensive work.

    Raises:
        OutputError: If something is there and ``overwrite`` is false or it is no output of ours,
            or its parent folder cannot be written.
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
    provenance: Provenance,
    overwrite: bool = False,
) -> Path:
    """Write ``model`` as a sentence-transformers folder with safetensors, model card and provenance.

    Args:
        model: What to write.
        out: Destination, written as :func:`writing` does.
        card: Text of ``README.md``.
        provenance: Content of ``gaprune.json``.
        overwrite: Whether an existing model folder is replaced.

    Raises:
        OutputError: If it cannot be written there.
    """
    with writing(out, overwrite=overwrite) as partial:
        model.save_pretrained(str(partial), create_model_card=False, safe_serialization=True)
        (partial / "README.md").write_text(card, encoding="utf-8")
        provenance.write(partial)
    return Path(out).resolve()


@contextmanager
def writing(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder next to ``out`` to fill: it is moved into place at the end of the block.

    So ``out`` is either what it was or complete; where the block fails, what it wrote goes.

    Raises:
        OutputError: If ``out`` is taken, or cannot be written.
    """
    out = check_destination(out, overwrite=overwrite)
    partial: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield partial
        partial.chmod(0o755)
        mode = _allowed(partial)  # safetensors writes for the owner alone
        for file in partial.rglob("*"):
            if file.is_file():
                file.chmod(mode)
        _move(partial, out)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The model cannot be written to {out}: {error}", "Make room, or choose another --out (out=...)."
        ) from error
    finally:
        if partial is not None and partial.exists():
            shutil.rmtree(partial)


def _allowed(folder: Path) -> int:
    """Return the mode that the umask gives to a new file in ``folder``."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    return mode


def _move(partial: Path, out: Path) -> None:
    """Put ``partial`` at ``out``; what was there stays until its successor has its name."""
    if not out.exists():
        partial.rename(out)
        return
    old = out.with_name(f"{partial.name}.old")
    out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
