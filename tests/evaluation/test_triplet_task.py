import numpy as np
import pytest

from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.models.prompts import Prompts

ROWS = [
    {"query": "red cat", "positive": "cat one", "negative": "acid salt"},
    {"query": "red cat", "positive": "iron", "negatives": ["red", "dog five", "blue"]},
    {"query": "gold", "positive": "gold three", "negatives": ["acid"]},
    {"query": "bird", "positive": "fish", "negative": "bird two"},
]


@pytest.mark.parametrize("prompts", [Prompts(), Prompts(query="blue five ", passage="salt dog ")])
def test_accuracy_counts_each_negative(tmp_path, model, write, prompts):
    (task,) = find_tasks(write(tmp_path / "T.jsonl", ROWS))

    def vector(text):
        found = model.encode([text])[0]
        return found / np.linalg.norm(found)

    hits = []
    for row in ROWS:
        query, positive = vector(prompts.query + row["query"]), vector(prompts.passage + row["positive"])
        negatives = row.get("negatives", [row.get("negative")])
        hits += [query @ positive > query @ vector(prompts.passage + negative) for negative in negatives]
    score = task.evaluate(model, prompts=prompts, batch_size=2)
    assert len(hits) == 6
    assert 0 < sum(hits) < 6, "the number must tell something"
    assert score.value == pytest.approx(sum(hits) / 6)
