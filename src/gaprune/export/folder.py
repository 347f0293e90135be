"""Output folders: written beside their place, loaded again and compared, and moved there when they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from torch import bfloat16, float16

from gaprune.errors import ModelError, OutputError
from gaprune.evaluation.quality.changed import ChangedQueries
from gaprune.export.model_files import write_model
from gaprune.export.provenance import PROVENANCE_FILE, Provenance
from gaprune.models.encode import encode
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.modes import padded_inputs
from gaprune.models.prompts import Role, resolve_prompts
from gaprune.util.files import check_parent, temporary_beside

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PAGE_FILE = "report.html"
"""Name of the page in the folder of a model."""
QUERIES_FILE = "queries.json"
"""Name of the file of the queries on the page, whose texts are the user's: never uploaded, like the page."""

_PLACE = "path/to/this/folder"
"""What cards call the place of the model until they are written."""

_TEXTS = ("net income of the quarter", "a dog runs over green grass, and a cat sleeps in the sun", "7 %")
_SINGLE, _HALF = 1e-3, 0.03
"""Most length of the difference of two embeddings, relative to the embedding, for fp32 and for types of two bytes."""
_REMEDY = "Nothing was written. Please report this with the name of the model."


def check_destination(out: str | Path, *, overwrite: bool) -> Path:
    """Return ``out`` as a path if a folder can be written there; call it before the expensive work.

    Raises:
        OutputError: If something is there and ``overwrite`` is false or GAPrune did not make it, or the parent folder
            cannot be written.
    """
    out = Path(out).expanduser().resolve()  # through links, so that a link is kept and its folder replaced
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
        write_card(partial, card, Path(out).expanduser().resolve().name)
        (partial / PAGE_FILE).write_text(page, encoding="utf-8")
        provenance.write(partial)
        if queries is not None:
            (partial / QUERIES_FILE).write_text(queries.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _check_reloaded(partial, model, provenance)
    return Path(out).expanduser().resolve()


def write_card(folder: Path, card: str, name: str) -> None:
    """Write a card, whose code opens the folder by its ``name``, as it does beside the folder."""
    (folder / "README.md").write_text(card.replace(_PLACE, name), encoding="utf-8")


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


def _check_reloaded(folder: Path, model: SentenceTransformer, provenance: Provenance) -> None:
    """Check that the model in ``folder`` opens, has the zeros of its provenance, and embeds as ``model`` does.

    A few queries and passages are embedded. Names in the files are not looked at: transformers writes some families
    (Nomic, GTE) under the names and with the fused layers of their original checkpoints.

    Raises:
        OutputError: If it does not.
    """
    try:
        again = load_model(
            folder,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            trust_remote_code=model.trust_remote_code,
        )
    except ModelError as error:
        raise OutputError(f"What was saved cannot be loaded again: {error.problem}", _REMEDY) from error
    if (again.max_seq_length, again.prompts) != (model.max_seq_length, model.prompts):
        raise OutputError(
            f"What was saved has other settings when it is loaded again: max_seq_length {again.max_seq_length} and "
            f"prompts {again.prompts} instead of {model.max_seq_length} and {model.prompts}.",
            _REMEDY,
        )
    _check_zeros(again, provenance)
    prompts = resolve_prompts(model)
    roles: tuple[Role, ...] = ("query", "passage")
    with ExitStack() as stack:
        for each in (model, again):
            stack.enter_context(padded_inputs(each))
            stack.enter_context(_whole(each))
        for role in roles:
            ours, theirs = (encode(each, _TEXTS, role, prompts) for each in (model, again))
            _compare(ours, theirs, role, tolerance=_HALF if model.dtype in (float16, bfloat16) else _SINGLE)


def _check_zeros(model: SentenceTransformer, provenance: Provenance) -> None:
    """Check that the selected layers of a loaded model have as many zeros as its provenance says."""
    if not provenance.method.selected:
        return
    weights = {layer.name: layer.module.weight for layer in linear_layers(model)}
    missing = next((name for name in provenance.method.selected if name not in weights), None)
    if missing is not None:
        raise OutputError(f"The saved files do not have the weights of {missing}.", _REMEDY)
    zeros = sum(weights[name].numel() - int(weights[name].count_nonzero()) for name in provenance.method.selected)
    if zeros != provenance.sparsity.removed:
        raise OutputError(
            f"The saved files have {zeros:,} zeros in the selected layers instead of {provenance.sparsity.removed:,}.",
            _REMEDY,
        )


@contextmanager
def _whole(model: SentenceTransformer) -> Iterator[None]:
    """All dimensions of embeddings: how many are read is a setting of the object, which no folder keeps."""
    dimensions, model.truncate_dim = model.truncate_dim, None
    try:
        yield
    finally:
        model.truncate_dim = dimensions


def _compare(ours: np.ndarray, theirs: np.ndarray, role: Role, *, tolerance: float) -> None:
    same = ours.shape == theirs.shape
    far = float((np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(ours, axis=1)).max()) if same else np.inf
    if not far <= tolerance:  # also if it is not a number
        raise OutputError(
            f"What was saved is another model when it is loaded again: the embedding of a {role} differs by {far:.2g} "
            f"of its length, of shape {theirs.shape} instead of {ours.shape}.",
            _REMEDY,
        )
