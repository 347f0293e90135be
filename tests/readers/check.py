"""Opens children of every family in the real readers, old and new, and compares their embeddings with ours.

Run it by ``make readers``. Each reader has an environment of its own, which is made in READERS_HOME (``.readers`` by
default) when it is missing. The table that it prints is that of docs/export.md; the exit code is 1 if a reader opens
a model and computes something else, or fails for another reason than that it does not know the family.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import gaprune  # noqa: E402
from families import FAMILIES, TEXTS, Builder  # noqa: E402
from gaprune.models.load import load_model  # noqa: E402
from gguf_families import GGUF_FAMILIES  # noqa: E402

SHORT = tuple(text[:16].strip() for text in TEXTS)  # sentence-transformers before 6 strips texts
LONG = "net income of the quarter was lower than a year before " * 30
HEADS = ("qwen3", "mistral", "llama", "gemma")
NOT_BY_DESIGN = {
    ("sentence-transformers 4.1", "gemma"): "needs transformers 4.57",  # it ignores use_bidirectional_attention
}
"""Cells in which the parent is computed wrongly too."""

EXPORTS: dict[str, dict[str, Any]] = {
    "fastembed": {"reader": "fastembed"},
    "transformers.js": {"reader": "transformers.js"},
    "transformers.js in int8": {"reader": "transformers.js", "int8": True, "force": True},
    "gguf": {"to": "gguf"},
}
"""What readers open other than the child's own folder, by the options of its export."""

_UNKNOWN = ("not recognize this architecture", "Unsupported model type")


@dataclass(frozen=True)
class Reader:
    """A program that opens folders.

    Args:
        packages: What it needs.
        script: The script that runs there.
        opens: ``child``, or a name in EXPORTS.
        cuts: Whether it cuts a long text as it should, not after it added the closing token, which is lost then.
        home: Name of its environment, if another reader has the same.
        tolerance: Largest difference of a value of an embedding, of the embedding's length.
    """

    packages: tuple[str, ...]
    script: str
    opens: str = "child"
    cuts: bool = True
    home: str | None = None
    tolerance: float = 1e-4


READERS = {
    "sentence-transformers 3.4": Reader(
        ("torch==2.13.0", "sentence-transformers==3.4.*", "transformers==4.49.*"), "open_sentence_transformers.py"
    ),
    "sentence-transformers 4.1": Reader(
        ("torch==2.13.0", "sentence-transformers==4.1.*", "transformers==4.53.*"), "open_sentence_transformers.py"
    ),
    "sentence-transformers 5.3": Reader(
        ("torch==2.13.0", "sentence-transformers==5.3.*", "transformers==4.57.*"), "open_sentence_transformers.py"
    ),
    "sentence-transformers, current": Reader((), "open_sentence_transformers.py"),
    "fastembed 0.9": Reader(("fastembed==0.9.*",), "open_fastembed.py", "fastembed"),
    "transformers.js 4.3": Reader(
        ("@huggingface/transformers@4.3",), "open_transformers_js.mjs", "transformers.js", cuts=False
    ),
    "transformers.js 4.3, int8": Reader(
        ("@huggingface/transformers@4.3",),
        "open_transformers_js.mjs",
        "transformers.js in int8",
        cuts=False,
        home="transformers.js 4.3",
        tolerance=5e-2,
    ),
    # llama.cpp's server in Python; it rounds to 16 bits in attention, and scales embeddings to length one
    "llama.cpp": Reader(
        ("xllamacpp==2026.10.11549",),
        "open_llama_cpp.py",
        "gguf",
        cuts=False,
        tolerance=1e-3,
    ),
}


def main() -> int:
    """Make the children, open them everywhere, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(READERS), help="names of readers; all by default")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    asked = parser.parse_args()
    home = Path(os.environ.get("READERS_HOME", ".readers")).resolve()
    with TemporaryDirectory() as name:
        wanted = {READERS[each].opens for each in asked.readers}
        children = {family: make_children(family, Path(name) / family, wanted) for family in asked.families}
        homes = {each: home / (READERS[each].home or each).replace(" ", "-") for each in asked.readers}
        rows = {each: open_all(READERS[each], homes[each], children) for each in asked.readers}
    for (reader, family), reason in NOT_BY_DESIGN.items():
        if rows.get(reader, {}).get(family, "").startswith("FAILS: differs"):
            rows[reader][family] = reason
    for reader, row in rows.items():
        print(f"| {reader} | " + " | ".join(row.values()) + " |")  # noqa: T201
    return int(any(cell.startswith("FAILS") for row in rows.values() for cell in row.values()))


def make_children(family: str, folder: Path, wanted: set[str]) -> dict[str, dict[Path, np.ndarray]]:
    """Return children of a family and the ``wanted`` exports of them, with the embeddings that they should give.

    They are those by this sentence-transformers; in int8, those by this ONNX Runtime.
    """
    found: dict[str, dict[Path, np.ndarray]] = {name: {} for name in ("child", *EXPORTS)}
    for child, embeddings in prune(FAMILIES[family], family, folder).items():
        found["child"][child] = embeddings
        for name in wanted & EXPORTS.keys() - {"gguf"}:
            out = gaprune.export_model(child, out=folder / f"{child.name} for {name}", **EXPORTS[name]).path
            found[name][out] = embeddings_by(gaprune.ExportedModel(out)) if "int8" in EXPORTS[name] else embeddings
    if "gguf" in wanted and family in GGUF_FAMILIES:
        for child, embeddings in prune(
            GGUF_FAMILIES[family], family, folder / "gguf", layers=family != "gemma"
        ).items():
            out = gaprune.export_model(child, out=folder / f"{child.name} for gguf", **EXPORTS["gguf"]).path
            shutil.copy(child / "config_sentence_transformers.json", out)  # for its prompts
            found["gguf"][out] = embeddings
    return found


def prune(build: Builder, family: str, folder: Path, *, layers: bool = True) -> dict[Path, np.ndarray]:
    """Return two children with their embeddings: one with zeros, one with cut structures (a layer if ``layers``)."""
    parent = build(folder)
    (folder / "texts.txt").write_text("\n".join(TEXTS[:5]), encoding="utf-8")
    cuts: dict[str, Any] = {"width": 0.5, "round_to": 8, "vocabulary": str(folder / "texts.txt")}
    cuts |= ({"depth": 1} if layers else {}) | ({"heads": 0.5} if family in HEADS else {})
    found = {}
    for change, options in {"zeros": {"sparsity": 0.5}, "cut": cuts}.items():
        gaprune.prune(parent, criterion="magnitude", device="cpu", out=folder / change, **options)
        found[folder / change] = embeddings_by(load_model(folder / change, device="cpu"))
    return found


def embeddings_by(model: Any) -> np.ndarray:
    """Return embeddings of short and long texts as queries."""
    prompt = "query" if model.prompts.get("query") else None
    return model.encode([*SHORT, *TEXTS, LONG], prompt_name=prompt)


def open_all(reader: Reader, home: Path, children: dict[str, dict[str, dict[Path, np.ndarray]]]) -> dict[str, str]:
    """Return the cell of every family."""
    command = [*environment(reader, home), str(HERE / reader.script)]
    wanted = {str(path): vectors for found in children.values() for path, vectors in found[reader.opens].items()}
    texts = [*SHORT, *TEXTS, LONG] if reader.cuts else SHORT
    request = {path: (texts, vectors.shape[1]) for path, vectors in wanted.items()}
    if reader.script.endswith(".mjs"):  # Node looks for packages beside the script
        command[-1] = str(home / reader.script)
        (home / reader.script).write_text((HERE / reader.script).read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout.rpartition("\n")[2])
    except json.JSONDecodeError:
        raise SystemExit(f"{home.name} did not answer:\n{done.stderr[-2000:]}") from None
    return {
        family: cell([(answer[str(path)], vectors) for path, vectors in found[reader.opens].items()], reader.tolerance)
        for family, found in children.items()
    }


def cell(pairs: list[tuple[list[list[float]] | str, np.ndarray]], tolerance: float) -> str:
    """Return the largest difference of a family's children, or what went wrong."""
    if not pairs:
        return "refused"
    errors = [found for found, _ in pairs if isinstance(found, str)]
    if errors:
        return "unknown" if all(any(each in error for each in _UNKNOWN) for error in errors) else f"FAILS: {errors[0]}"
    worst = max(_difference(np.array(found), vectors[: len(found)]) for found, vectors in pairs)
    return f"{worst:.0e}" if worst <= tolerance else f"FAILS: differs by {worst:.0e}"


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    return float((np.abs(found - expected) / lengths).max())


def environment(reader: Reader, home: Path) -> list[str]:
    """Return the command of an environment's interpreter; the environment is made if it is missing."""
    if not reader.packages:
        return [sys.executable]
    if reader.script.endswith(".mjs"):
        if not (home / "node_modules").is_dir():
            home.mkdir(parents=True, exist_ok=True)
            (home / "package.json").write_text('{"private": true, "type": "module"}\n', encoding="utf-8")
            subprocess.run(["npm", "install", "--ignore-scripts", *reader.packages], cwd=home, check=True)  # noqa: S607
        return ["node"]
    python = home / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *reader.packages], check=True)
    return [str(python)]


if __name__ == "__main__":
    sys.exit(main())
