"""Opens children of every family in the real readers, old and new, and compares their embeddings with ours.

Run it by ``make readers``. Each reader has an environment of its own, which is made in READERS_HOME (``.readers`` by
default) when it is missing. The table that it prints is that of docs/export.md; the exit code is 1 if a reader opens
a model and computes something else, or fails for another reason than that it does not know the family.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import gaprune  # noqa: E402
from families import FAMILIES, TEXTS, build  # noqa: E402
from gaprune.models.load import load_model  # noqa: E402

TOLERANCE = 1e-4
SHORT = tuple(text[:16] for text in TEXTS)
LONG = "net income of the quarter was lower than a year before " * 30
HEADS = ("qwen3", "mistral", "llama", "gemma")
NOT_BY_DESIGN = {
    ("sentence-transformers 4.1", "gemma"): "needs transformers 4.57",  # it ignores use_bidirectional_attention
}
"""Cells in which the parent is computed wrongly too."""

_UNKNOWN = ("not recognize this architecture", "Unsupported model type")


@dataclass(frozen=True)
class Reader:
    """A program that opens folders: what it needs, the script that runs there, and which folders it opens.

    ``cuts`` is false if it cuts a long text after it added the closing token, which is lost then.
    """

    packages: tuple[str, ...]
    script: str
    opens: str = "child"
    cuts: bool = True


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
    "fastembed 0.9": Reader(("fastembed==0.9.*",), "open_fastembed.py", "onnx"),
    "transformers.js 4.3": Reader(("@huggingface/transformers@4.3",), "open_transformers_js.mjs", "onnx", cuts=False),
}


def main() -> int:
    """Make the children, open them everywhere, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(READERS), help="names of readers; all by default")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    asked = parser.parse_args()
    home = Path(os.environ.get("READERS_HOME", ".readers")).resolve()
    with TemporaryDirectory() as name:
        children = {family: make_children(family, Path(name) / family) for family in asked.families}
        rows = {each: open_all(READERS[each], home / each.replace(" ", "-"), children) for each in asked.readers}
    for (reader, family), reason in NOT_BY_DESIGN.items():
        if rows.get(reader, {}).get(family, "").startswith("FAILS: differs"):
            rows[reader][family] = reason
    for reader, row in rows.items():
        print(f"| {reader} | " + " | ".join(row.values()) + " |")  # noqa: T201
    return int(any(cell.startswith("FAILS") for row in rows.values() for cell in row.values()))


def make_children(family: str, folder: Path) -> dict[str, dict[Path, np.ndarray]]:
    """Return children of a family by what is to open them, with their embeddings by this sentence-transformers."""
    parent = build(family, folder)
    (folder / "texts.txt").write_text("\n".join(TEXTS[:5]), encoding="utf-8")
    cuts = {"width": 0.5, "depth": 1, "round_to": 8, "vocabulary": str(folder / "texts.txt")}
    changes = {"zeros": {"sparsity": 0.5}, "cut": cuts | ({"heads": 0.5} if family in HEADS else {})}
    found: dict[str, dict[Path, np.ndarray]] = {"child": {}, "onnx": {}}
    for change, options in changes.items():
        child = folder / change
        gaprune.prune(parent, criterion="magnitude", device="cpu", out=child, **options)
        model = load_model(child, device="cpu")
        prompt = "query" if model.prompts.get("query") else None
        embeddings = model.encode([*SHORT, *TEXTS, LONG], prompt_name=prompt)
        graph = gaprune.export_model(child, to="onnx", out=folder / f"{change}-onnx").path
        found["child"][child] = found["onnx"][graph] = embeddings
    return found


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
        family: cell([(answer[str(path)], vectors) for path, vectors in found[reader.opens].items()])
        for family, found in children.items()
    }


def cell(pairs: list[tuple[list[list[float]] | str, np.ndarray]]) -> str:
    """Return the largest difference of a family's children, or what went wrong."""
    errors = [found for found, _ in pairs if isinstance(found, str)]
    if errors:
        return "unknown" if all(any(each in error for each in _UNKNOWN) for error in errors) else f"FAILS: {errors[0]}"
    worst = max(float(np.abs(np.array(found) - vectors[: len(found)]).max()) for found, vectors in pairs)
    return f"{worst:.0e}" if worst <= TOLERANCE else f"FAILS: differs by {worst:.0e}"


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
