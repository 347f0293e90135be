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


def test_a_query_is_drawn_with_all_of_its_negatives(tmp_path, model, write):
    """The interval is over queries, of which "red cat" has four of the six triplets."""
    (task,) = find_tasks(write(tmp_path / "T.jsonl", ROWS))
    items = task.evaluate(model, prompts=Prompts(), batch_size=2).items
    assert len(items) == 3
    drawn = np.array([[1.0, 1, 1], [3, 0, 0], [0, 2, 1], [1, 0, 2]])
    counts = np.array([4, 1, 1])
    wanted = [sum(row * items) / sum(row * counts) for row in drawn]
    assert task.resampled(items, drawn) == pytest.approx(wanted)
