"""A search that is running: its index stays, and only the model that answers queries becomes smaller.

The index holds embeddings of the parent, computed once, as when the search was set up. Then the parent is pruned, and
the child answers the queries in that index.

    python examples/keep_the_index.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.data.samples import sample_evaluation, sample_triplets
from gaprune.models.demo import demo_model


def main(model: Path, folder: Path, *, width: float = 0.5, **options: Any) -> None:
    """Prune ``model``, ask whether the index can be kept, and search it with both models."""
    task = next(path for path in sorted(sample_evaluation("finance").rglob("corpus.jsonl")))
    passages = [json.loads(line) for line in task.read_text(encoding="utf-8").splitlines()]
    queries = [
        json.loads(line)["text"] for line in task.with_name("queries.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    parent = SentenceTransformer(str(model), device="cpu")
    index = parent.encode_document([each["text"] for each in passages])
    print(f"The index holds {len(index)} passages.")

    result = gaprune.prune(model, domain=sample_triplets("finance"), width=width, out=folder / "child", **options)
    print(f"{result.summary}.")
    judged = gaprune.evaluate(
        folder / "child", tasks=sample_evaluation("finance"), parent=model, index="parent", device="cpu"
    )
    found = judged.parent_index()
    print(f"{found.metric} in the parent's index: {found.value:.3f} by the child, {found.parent:.3f} by the parent.")
    print("The index can be kept." if found.same_space else "The index cannot be kept.")

    child = SentenceTransformer(str(folder / "child"), device="cpu")
    first = [each.similarity(each.encode_query(queries), index).argmax(dim=1) for each in (parent, child)]
    print(f"Both find the same first passage for {int((first[0] == first[1]).sum())} of {len(queries)} queries.")


if __name__ == "__main__":
    main(demo_model(), Path(tempfile.mkdtemp()), triplets=96, reconstruction_triplets=32)
