"""What is said of a mix that was chosen for a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["target_text"]

_LIMITS = {
    "parameters": "at most {:,.0f} parameters",
    "size": "weights of at most {:,.0f} bytes",
    "speedup": "{:g} times fewer operations",
}


def target_text(target: Mapping[str, Any]) -> str:
    """Return what was asked and what was chosen, from what the provenance says of it."""
    ((kind, limit),) = target["target"].items()
    best, parent = target["chosen"], target["parent"]
    tokens = "" if best["tokens"] == parent["tokens"] else f", {best['tokens']:,} of {parent['tokens']:,} tokens"
    return (
        f"Chosen for {_LIMITS[kind].format(limit)}, of {len(target['candidates'])} mixes, as it harms least by "
        f"estimate: {parent['depth'] - best['depth']} of {parent['depth']} layers, {best['width']:,} of "
        f"{parent['width']:,} neurons a layer{tokens} stay; {best['parameters']:,} parameters, and "
        f"{best['speedup']:.2f} times fewer operations a token in the matrices of the layers."
    )
