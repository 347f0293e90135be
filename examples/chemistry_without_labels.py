"""A chemistry lab without labels: plain notes become triplets, and half of the FFN of a model is removed for them.

The notes are the passages of the chemistry samples of GAPrune, one Markdown file for each. Nobody labelled them:
their sentences serve as queries.

    python examples/chemistry_without_labels.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import gaprune
from gaprune.data.documents.from_texts import triplets_from_texts
from gaprune.data.samples import sample_evaluation, sample_triplets
from gaprune.models.demo import demo_model


def main(model: Path, folder: Path, *, width: float = 0.5, tokens: str = "20K", **options: Any) -> None:
    """Prune ``model`` for the notes, distil from the parent on them, and judge on the questions of the samples."""
    notes = write_notes(folder / "notes")
    made = triplets_from_texts(notes, seed=0)
    print(f"{len(list(notes.iterdir()))} notes gave {len(made.triplets)} triplets, for example:")
    print(f"  {made.triplets[0].query!r} -> {made.triplets[0].positive[:80]!r}")
    pruned = gaprune.prune(model, domain=made.triplets, width=width, out=folder / "pruned", **options)
    print(f"{pruned.summary}.")
    recovered = gaprune.recover(
        folder / "pruned", texts=notes, tokens=tokens, parent=model, out=folder / "recovered", device="cpu"
    )
    cosines = [look.held_out_cosine for look in recovered.records[-1].training.distillation]
    print(f"Distilled from the parent: cosine {cosines[0]:.3f} before, {max(cosines):.3f} after.")
    for name in ("pruned", "recovered"):
        judged = gaprune.evaluate(folder / name, tasks=sample_evaluation("chemistry"), parent=model, device="cpu")
        print(f"{name}: nDCG@10 {judged.mean():.3f}, the parent's {judged.parent_mean():.3f}")


def write_notes(folder: Path) -> Path:
    """Write one Markdown file for each passage, as a lab keeps its notes."""
    folder.mkdir()
    passages = [
        json.loads(line)["positive"] for line in sample_triplets("chemistry").read_text(encoding="utf-8").splitlines()
    ]
    for number, passage in enumerate(dict.fromkeys(passages)):
        (folder / f"note-{number:03}.md").write_text(passage, encoding="utf-8")
    return folder


if __name__ == "__main__":
    main(demo_model(), Path(tempfile.mkdtemp()), triplets=64, reconstruction_triplets=24)
