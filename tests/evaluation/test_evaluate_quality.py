import copy

import pytest
import torch

from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.util.progress import quiet


@pytest.fixture
def tasks(tmp_path, write, retrieval, classification, graded_pairs):
    retrieval(tmp_path / "zoo" / "Search")
    classification(tmp_path / "zoo" / "Labels")
    write(tmp_path / "metals" / "Similar.jsonl", graded_pairs)
    write(tmp_path / "metals" / "Match.jsonl", [{**row, "score": int(row["score"] > 2)} for row in graded_pairs])
    write(tmp_path / "Triples.jsonl", [{"query": "red cat", "positive": "cat", "negative": "acid"}])
    return find_tasks(tmp_path)


def test_every_task_is_scored_in_order(model, tasks):
    found = evaluate(model, tasks)
    assert [score.key for score in found.scores] == [task.key for task in tasks]
    assert found.domains == ("", "metals", "zoo")
    assert all(score.parent is None and score.seconds > 0 for score in found.scores)


def test_the_parent_is_scored_beside_as_if_alone(model, new_model, tasks):
    parent = new_model(seed=1)
    both, alone = evaluate(model, tasks, parent=parent), evaluate(parent, tasks)
    assert [score.parent for score in both.scores] == pytest.approx([score.value for score in alone.scores])
    assert [score.parent for score in both.scores] != [score.value for score in both.scores]


def test_a_parent_evaluated_before_is_not_evaluated_again(model, new_model, tasks, monkeypatch):
    parent = new_model(seed=1)
    before = evaluate(parent, tasks)
    monkeypatch.setattr(parent, "encode", None)
    both = evaluate(model, tasks, parent=before)
    assert [score.parent for score in both.scores] == [score.value for score in before.scores]


def test_a_parent_of_other_tasks_is_refused_before_encoding(model, new_model, tasks, monkeypatch):
    before = evaluate(model, tasks[1:])
    other = new_model()
    monkeypatch.setattr(other, "encode", None)
    with pytest.raises(ConfigError, match=r"not evaluated on the same tasks; they differ in Triples\."):
        evaluate(other, tasks, parent=before)


def test_half_precision_ranks_like_full_precision_embeddings_of_it(new_model, tasks):
    half = new_model().to(torch.bfloat16)
    full = copy.deepcopy(half).float()
    values = [[score.value for score in evaluate(each, tasks).scores] for each in (half, full)]
    assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_the_model_is_left_as_it_was_and_nothing_is_written(model, tasks, tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with quiet():
        evaluate(model, tasks)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.model_card_data.eval_results_dict
    assert not list(work.iterdir())
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_on_stderr_alone(model, tasks, capsys, monkeypatch):
    monkeypatch.setattr("gaprune.util.progress._EVERY", 0.0)
    evaluate(model, tasks)
    out, err = capsys.readouterr()
    assert not out
    assert "Evaluating" in err
    assert "5 of 5" in err


@pytest.mark.parametrize("name", ["Triples", "Match", "Similar", "Labels", "Search"])
def test_embeddings_that_are_not_finite_are_refused(new_model, tasks, name):
    model = new_model()
    model[0].embedding.weight.data[model.tokenizer.token_to_id("cat")] = float("nan")
    task = next(task for task in tasks if task.name == name)
    with pytest.raises(ModelError, match=rf"NaN or infinity for \d+ of \d+ texts of the task {name}\.\nPrune less"):
        evaluate(model, [task])


def test_repeated_texts_are_encoded_once(new_model, tmp_path, write):
    rows = [{"query": "red cat", "positive": "cat", "negatives": ["acid", "salt", "gold"]}]
    model, encoded = new_model(), []
    genuine = model.encode

    def encode(inputs, **kwargs):
        encoded.extend(inputs)
        return genuine(inputs, **kwargs)

    model.encode = encode
    evaluate(model, find_tasks(write(tmp_path / "T.jsonl", rows)))
    assert sorted(encoded) == ["acid", "cat", "gold", "red cat", "salt"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tasks": []}, r"tasks: there are no tasks to evaluate\.\nName a folder"),
        ({"batch_size": 0}, r"batch_size: 0 is below 1\.\nGive the number"),
    ],
)
def test_bad_arguments_are_refused(model, tasks, change, text):
    with pytest.raises(ConfigError, match=text):
        evaluate(model, **{"tasks": tasks, **change})
