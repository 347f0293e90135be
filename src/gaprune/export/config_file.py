"""``config.json`` in a form that transformers 4 and the servers written for it read to the same model.

transformers 5 writes ``dtype`` for ``torch_dtype``, ``rope_parameters`` for ``rope_theta`` and its companions, and a
list of layer types for the number that they follow. It reads the earlier names too, so both are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_Json = dict[str, Any]

_THETAS = {"modernbert": ("global_rope_theta", "local_rope_theta")}
"""Earlier names of the two bases of rotary positions, of full and of sliding attention, by model type."""

_OTHER_THETAS = ("rope_theta", "rope_local_base_freq")


_PATTERNS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "gemma3_text": (("sliding_window_pattern", "_sliding_window_pattern"), -1),
    "cohere2": (("sliding_window_pattern",), -1),
    "modernbert": (("global_attn_every_n_layers",), 0),
}
"""Earlier names of the period of full attention by model type, and which layer of a period has it."""


def rewrite_config(folder: Path) -> None:
    """Add to ``config.json`` in ``folder`` the names that transformers 4 knows; the model stays the same."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            if part.get("dtype"):
                part["torch_dtype"] = part["dtype"]
            if part.get("pad_token_id", 0) is None:
                del part["pad_token_id"]  # TEI expects a number or nothing
            part.update(_rope(part) | _layer_pattern(part))
    path.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _rope(config: _Json) -> _Json:
    """Return the rotary positions under their earlier names."""
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        found = {name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}
        return found | _scaling(rope)
    full, sliding = rope.get("full_attention"), rope.get("sliding_attention")
    if not (full and sliding):
        return {}
    names = _THETAS.get(config.get("model_type", ""), _OTHER_THETAS)
    bases = {name: part["rope_theta"] for name, part in zip(names, (full, sliding), strict=True)}
    return bases | (_scaling(full) if names == _OTHER_THETAS else {})


def _scaling(rope: _Json) -> _Json:
    if rope.get("rope_type", "default") == "default":
        return {}
    known = {"rope_theta", "partial_rotary_factor"}
    return {"rope_scaling": {name: value for name, value in rope.items() if name not in known}}


def _layer_pattern(config: _Json) -> _Json:
    """Return the period of full attention.

    It is ``None`` if the layers that were kept follow none: a reader that computes the layer types from the period
    stops with an error then, where its default would give another model without a word.
    """
    names, place = _PATTERNS.get(config.get("model_type", ""), ((), 0))
    types = config.get("layer_types")
    if not (names and types):
        return {}
    known = (config.get(name) for name in names)
    periods = [each for each in known if isinstance(each, int)] + list(range(1, len(types) + 2))
    full = [each == "full_attention" for each in types]
    fits = (each for each in periods if [layer % each == place % each for layer in range(len(types))] == full)
    return dict.fromkeys(names, next(fits, None))
