"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console, RenderableType

__all__ = ["say", "show", "show_json"]


def show(*parts: RenderableType) -> None:
    """Print tables and texts on stdout."""
    console = Console()
    for part in parts:
        if isinstance(part, str):
            console.print(part, highlight=False, markup=False, soft_wrap=True)
        else:
            console.print(part)


def say(text: str) -> None:
    """Print a remark on stderr."""
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def show_json(content: Any) -> None:
    """Print JSON on stdout, alone."""
    Console(soft_wrap=True).out(json.dumps(content, indent=2), highlight=False)
