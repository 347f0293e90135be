"""The zeros in the files of a model folder, counted after they were written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from gaprune.errors import OutputError
from gaprune.export.provenance import Provenance
from gaprune.util.tensor_store import StoredTensors

__all__ = ["check_saved_zeros"]

_REMEDY = "Nothing was written. Please report this with the name of the model."


def check_saved_zeros(folder: Path, provenance: Provenance) -> None:
    """Check that the selected layers have as many zeros in the saved files as the provenance says.

    Raises:
        OutputError: If they have not, or a layer is missing.
    """
    if not provenance.method.selected:
        return
    stored, zeros = _stored(folder), 0
    for layer in provenance.method.selected:
        name = f"{layer}.weight"
        found = [name] if name in stored else [each for each in stored if each.endswith(f".{name}")]
        if len(found) != 1:
            raise OutputError(f"The saved files do not have the weights of {layer}.", _REMEDY)
        weight = stored[found[0]]()
        zeros += weight.numel() - int(weight.count_nonzero())
    if zeros != provenance.sparsity.removed:
        raise OutputError(
            f"The saved files have {zeros:,} zeros in the selected layers instead of {provenance.sparsity.removed:,}.",
            _REMEDY,
        )


def _stored(folder: Path) -> dict[str, Callable[[], Tensor]]:
    """Return what reads each saved tensor, by its name in the model: those of ``2_Dense`` start with ``2.``."""
    found: dict[str, Callable[[], Tensor]] = {}
    for file in folder.rglob("*.safetensors"):
        number = file.parent.name.partition("_")[0]
        prefix = f"{number}." if file.parent != folder and number.isdigit() and number != "0" else ""
        tensors = StoredTensors(file)
        found |= {f"{prefix}{name}": partial(tensors.__getitem__, name) for name in tensors}
    return found
