"""What a model is called in cards, pages and sentences."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

from gaprune.models.demo import DEMO_NAME, is_demo

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SAYS_NOTHING = re.compile(
    r"(best|checkpoint|export|exported|final|home|last|latest|model|models|onnx|openvino|out|output|outputs|result"
    r"|results|root|saved|snapshot|snapshots|tmp|trained|users|weights)?([-_ ]?(model|checkpoint|step|epoch|\d+))*"
    r"|[0-9a-f]{40}",
    re.IGNORECASE,
)
_CLASSES = frozenset({"SentenceTransformer", "SparseEncoder", "CrossEncoder"})
"""Headings of the cards that sentence-transformers writes when it knows no name."""

_CLIMBS = 3
"""A name is looked for at most this many folders above the model."""


def is_local(name: str) -> bool:
    """Return whether ``name`` is a path or a description rather than a hub id."""
    return name.startswith((".", "~")) or _HUB_ID.fullmatch(name) is None or Path(name).exists()


def model_name(source: str | Path) -> str:
    """Return what a model is called that is loaded by ``source``; no path of the machine is in it.

    A hub id is its own name, and so is the last part of the path of a folder. If that says nothing, as ``model`` and
    ``checkpoint-500`` do, the name is the one on the folder's card, or that of a folder above, before the last part.
    ``_name_or_path`` in a configuration is not used: it names what the model was trained from.
    """
    if is_demo(source):
        return DEMO_NAME
    if not is_local(str(source)):
        return str(source)
    folder = Path(os.path.abspath(Path(source).expanduser()))  # noqa: PTH100 (Path.resolve would follow links)
    if not _SAYS_NOTHING.fullmatch(folder.name):
        return folder.name
    above = next((each.name for each in list(folder.parents)[:_CLIMBS] if _is_telling(each)), None)
    return _name_on_card(folder) or (folder.name if above is None else f"{above}-{folder.name}")


def _is_telling(folder: Path) -> bool:
    """Return whether the name of a folder says something of a model; that of a person's own folder does not."""
    is_home = folder == Path.home() or folder.parent.name.lower() in ("home", "users")
    return not is_home and _SAYS_NOTHING.fullmatch(folder.name) is None


def _name_on_card(folder: Path) -> str | None:
    """Return the name in the model-index of a card, or its first heading if that is a name."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        metadata = yaml.safe_load(front[1]) if front else {}
    except yaml.YAMLError:
        metadata = {}
    listed = metadata.get("model-index") if isinstance(metadata, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    heading = re.search(r"^# (.+)$", text[front.end() if front else 0 :], re.MULTILINE)
    candidates = (first.get("name") if isinstance(first, dict) else None, heading and heading[1].strip())
    names = (each for each in candidates if isinstance(each, str) and each not in _CLASSES)
    return next((each.rpartition("/")[2] for each in names if _HUB_ID.fullmatch(each)), None)
