"""Support tickets: questions and answers from a spreadsheet, and a model that is twice as fast for them.

The texts are the finance samples of GAPrune, questions to a bank and its answers, written to a CSV file as a
spreadsheet exports it: with semicolons and a byte order mark. Put a file of your own in its place.

    python examples/support_tickets.py [MINUTES]
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.data.samples import sample_triplets
from gaprune.models.demo import demo_model


def main(model: Path, folder: Path, **options: Any) -> None:
    """Shrink ``model`` for the tickets, and search with what came out."""
    tickets = write_tickets(folder / "tickets.csv")
    small = gaprune.shrink(model, domain=tickets, out=folder / "small", **options)
    print(
        f"{small.provenance.sparsity.parent_parameters:,} parameters became {small.provenance.sparsity.parameters:,}."
    )
    found, record = small.evaluation, small.provenance.shrink
    print(f"{record.speed.speedup:.1f} times faster. nDCG@10 on {record.held_out_queries} held-out questions:")
    print(f"  {found.mean('domain'):.3f} alone, {found.parent_index('domain').value:.3f} in the parent's index")
    print(f"  {found.parent_mean('domain'):.3f} by the parent")
    answers = [row["answer"] for row in read(tickets)]
    search(SentenceTransformer(str(small.out), device="cpu"), "my card payment is still pending", answers)


def write_tickets(path: Path) -> Path:
    """Write the samples as a spreadsheet does."""
    triplets = [json.loads(line) for line in sample_triplets("finance").read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["question", "answer", "negative"])
        rows.writerows([each["query"], each["positive"], each["negative"]] for each in triplets)
    return path


def read(path: Path) -> list[dict[str, str]]:
    """Read the file again, without GAPrune."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


def search(model: SentenceTransformer, question: str, answers: list[str]) -> None:
    """Print the best answer to a question."""
    similarity = model.similarity(model.encode_query(question), model.encode_document(answers))[0]
    print(f"{question!r} finds: {answers[int(similarity.argmax())][:100]} ...")


if __name__ == "__main__":
    minutes = float(sys.argv[1]) if sys.argv[1:] else 8.0
    few = {"triplets": 32, "layer_triplets": 12, "reconstruction_triplets": 24}
    main(demo_model(), Path(tempfile.mkdtemp()), speedup=2, runtime="torch", minutes=minutes, held_out=0.25, prune=few)
