"""Distillation on texts without labels: what is made of them, how they are packed, and what comes of it."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

import gaprune
from gaprune.config.recovery import RecoveryOptions
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.export.provenance import Provenance
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.heads import add_head
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from gaprune.reconstruction.head import pca_head
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import read_recovery_data
from gaprune.recovery.estimate import Speed
from gaprune.recovery.losses import pair_ndcg
from gaprune.recovery.retrain import retrain
from gaprune.recovery.teacher import embed_with_teacher
from gaprune.recovery.text_data import TextData
from gaprune.recovery.texts import SPANS, read_passages, texts_of_triplets
from gaprune.recovery.trainer import RecoveryTrainer, Steering
from toys import triplets_file


@pytest.fixture
def documents(tmp_path, many):
    """A folder with Markdown, plain text, JSON lines of texts and triplets."""
    folder = tmp_path / "documents"
    folder.mkdir()
    passages = [f"{item.positive}. {item.negatives[0].capitalize()} 1. It was {item.query} 2." for item in many]
    body = "\n\n".join(passages[:10])
    (folder / "a.md").write_text(f"# The annual report\n\n## Cash and loans\n\n{body}\n", encoding="utf-8")
    (folder / "b.txt").write_text("\n\n".join(passages[10:20]), encoding="utf-8")
    lines = [
        json.dumps({"_id": str(n), "title": f"title {n}", "text": text}) for n, text in enumerate(passages[20:30])
    ]
    (folder / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    triplets_file(folder / "d.jsonl", many[30:])
    return folder


QUICK = {"batch_size": 4, "learning_rate": 2e-3, "device": "cpu", "bf16": False, "tokens": 4000}


def test_a_passage_in_several_files_has_all_of_its_queries(tmp_path):
    passage = "The bank raised the rate of interest by a quarter of a point."
    triplets_file(tmp_path / "a.jsonl", Triplets([Triplet("when were rates raised", passage, ())], "a"))
    triplets_file(tmp_path / "b.jsonl", Triplets([Triplet("who raised the rate", passage, ())], "b"))
    triplets_file(tmp_path / "c.jsonl", Triplets([Triplet("what else", "Nothing else was said.", (passage,))], "c"))
    (tmp_path / "d.txt").write_text(passage, encoding="utf-8")
    found = {entry.passage: entry.queries for entry in read_passages(tmp_path).entries}
    assert found[passage] == ("when were rates raised", "who raised the rate")


@pytest.fixture
def folder(folder_of, tmp_path, monkeypatch):
    """A folder that GAPrune wrote, cut to half of its neurons."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gaprune.prune(folder_of("bert"), criterion="magnitude", sparsity=0.6, targets="all", out=tmp_path / "pruned")
    return tmp_path / "pruned"


def test_passages_and_their_queries(documents, many):
    texts = read_passages(documents)
    of = {entry.passage: entry for entry in texts.entries}
    assert len(of) == len(texts)
    marked = [entry for entry in texts.entries if "a.md" in entry.document]
    titled = [entry for entry in texts.entries if "c.jsonl" in entry.document]
    headings = [["The annual report", "Cash and loans"]] + [["Cash and loans"]] * (len(marked) - 1)
    headings += [[f"title {number}"] for number in range(10)]
    for entry, wanted in zip((*marked, *titled), headings, strict=True):
        assert list(entry.queries[: len(wanted)]) == wanted
        assert len(entry.queries) > len(wanted)
        assert all(query in entry.passage for query in entry.queries[len(wanted) :])
    for item in many[30:]:
        assert of[item.positive].queries[0] == item.query
        assert item.negatives[0] in of
    assert read_passages(documents).fingerprint == texts.fingerprint


def test_near_duplicates_in_other_files_are_left_out(tmp_path, capsys):
    text = "The reactor is cooled with water from the river before the second stage begins to run."
    for name, end in (("a.txt", ""), ("b.txt", " Twice."), ("c.txt", " It is safe.")):
        (tmp_path / name).write_text(text + end, encoding="utf-8")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.jsonl").write_text(json.dumps({"_id": "1", "text": "Steam drives it all day."}))
    (tmp_path / "corpus" / "queries.jsonl").write_text(json.dumps({"_id": "1", "text": "What is it that it drives?"}))
    assert [entry.passage for entry in read_passages(tmp_path).entries] == [text, "Steam drives it all day."]
    assert "near-duplicate of an earlier one (2)" in capsys.readouterr().err


def test_columns_of_triplets_are_mapped_where_they_are_there(many, tmp_path):
    usual, own = tmp_path / "usual.jsonl", tmp_path / "own.jsonl"
    usual.write_text("".join(json.dumps({"query": a.query, "positive": a.positive}) + "\n" for a in many[:3]))
    own.write_text("".join(json.dumps({"frage": a.query, "antwort": a.positive}) + "\n" for a in many[3:6]))
    columns = {"query": "frage", "positive": "antwort"}
    found = read_passages(tmp_path, columns=columns)
    assert {entry.passage for entry in found.entries} == {item.positive for item in many[:6]}
    with pytest.raises(DataError, match=r"--set columns\.query=NAME"):
        read_passages(own)


def test_spans_are_queries_after_the_sentences(many):
    entry = texts_of_triplets(many[:1], "one").entries[0]
    made = [entry.query(number) for number in range(2 * (len(entry.queries) + SPANS))]
    assert made[0] == many[0].query
    assert all(span in entry.passage for span in made[len(entry.queries) : len(entry.queries) + SPANS])
    assert made[: len(made) // 2] == made[len(made) // 2 :]


def test_whole_documents_are_held_out(documents):
    texts = read_passages(documents)
    training, held_out = texts.hold_out(12, seed=1)
    assert 0 < len(held_out) <= 12
    assert sorted(entry.passage for entry in (*training.entries, *held_out.entries)) == sorted(
        entry.passage for entry in texts.entries
    )
    assert not {entry.document for entry in training.entries} & {entry.document for entry in held_out.entries}
    with pytest.raises(DataError, match="a single passage"):
        training.hold_out(1, seed=0)[1].hold_out(1, seed=0)


class TestPacked:
    @pytest.fixture
    def planned(self, bert, many, quick):
        def plan(tokens, **given):
            options = quick(batch_size=5, texts="texts", held_out=0, **given)
            domain = texts_of_triplets(many, "domain")
            others = [gaprune.Triplet("cash", f"general {item.positive}") for item in many[:3]]
            general = texts_of_triplets(others, "general") if options.general_share else None
            return TextData.of(domain, general, options).planned(bert, tokens, options), options

        return plan

    def test_the_budget_is_that_of_real_tokens(self, bert, planned):
        data, options = planned(3000)
        pairs, batches = data.plan(options)
        of_batches = [[text for row in batch for text in (pairs[row].query, pairs[row].positive)] for batch in batches]
        tokens = [sum(len(bert.tokenizer(text)["input_ids"]) for text in texts) for texts in of_batches]
        assert tokens == list(data.packed.tokens)
        assert sum(tokens[:-1]) < 3000 <= sum(tokens)
        assert all(len(batch) == 5 for batch in batches)
        assert sorted(row for batch in batches for row in batch) == list(range(len(pairs)))

    def test_every_passage_comes_once_in_a_pass_with_another_query(self, planned):
        data, _ = planned(40_000)
        seen = {}
        for pair in data.packed.pairs:
            seen.setdefault(pair.positive, []).append(pair.query)
        whole = int(data.passes / 4) * 4  # the batches of four passes are shuffled together
        assert len(seen) == len(data.domain)
        assert all(whole <= len(queries) <= whole + 4 for queries in seen.values())
        assert sum(len(set(queries)) > 1 for queries in seen.values()) > 0.8 * len(seen)

    def test_a_share_is_general(self, planned):
        data, _ = planned(20_000, general_share=0.25)
        general = [pair.positive.startswith("general") for pair in data.packed.pairs]
        assert sum(general) / len(general) == pytest.approx(0.25, abs=0.03)

    def test_batches_hold_passages_of_similar_length(self, bert, many, quick):
        options = quick(batch_size=4, texts="texts", held_out=0)
        triplets = [*many[:20], *(gaprune.Triplet(i.query, " ".join([i.positive] * 6)) for i in many[20:])]
        data = TextData.of(texts_of_triplets(triplets, "mixed"), None, options).planned(bert, 4000, options)
        lengths = [
            sorted(len(data.packed.pairs[row].positive.split()) for row in batch) for batch in data.packed.batches
        ]
        assert sum(each[-1] > 2 * each[0] for each in lengths) <= 1 + len(lengths) // 10


def test_from_texts_to_a_folder(folder, documents, tmp_path):
    result = gaprune.recover(folder, texts=documents, out=tmp_path / "out", **QUICK)
    points = result.training.distillation
    assert points[-1].held_out_cosine > points[0].held_out_cosine
    assert [point.tokens for point in points] == sorted(point.tokens for point in points)
    assert points[0].tokens == 0
    options = RecoveryOptions.build({"texts": documents, **QUICK})
    held_out, _ = TextData.of(read_passages(documents), None, options).held_out_batches(options, 1)
    embedded = [
        result.model.encode(list(each)) for each in zip(*((i.query, i.positive) for i in held_out), strict=True)
    ]
    (best,) = (point for point in points if point.step == result.training.best_step)
    assert best.held_out_ndcg == pytest.approx(pair_ndcg(*map(torch.from_numpy, embedded)), abs=1e-5)
    (recovery,) = Provenance.read(tmp_path / "out").recoveries
    assert recovery.data.tokens == points[-1].tokens >= 4000
    assert recovery.data.spans_as_queries
    assert recovery.training.masked_weights > 0
    assert "held-out cosine to the parent" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (kept,) = (tmp_path / "cache").rglob("*.f16")
    assert kept.stat().st_size % (2 * result.model.get_embedding_dimension()) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "documents", "out", "pruned"]


def test_a_training_in_vain_is_said_and_changes_nothing(folder, documents, capsys):
    result = gaprune.recover(folder, texts=documents, parent=folder, **QUICK)  # it can get no nearer to itself
    assert result.training.best_step == 0
    assert "Distilling gained nothing" in capsys.readouterr().err
    assert weights_fingerprint(result.model) == weights_fingerprint(load_model(folder))


def test_another_teacher_than_the_parent_is_named(folder, documents, tmp_path, capsys):
    """It was said to be the parent: in the loss, in the cosine, and where scores are compared."""
    teacher = load_model(folder)
    with torch.no_grad():
        teacher[0].model.embeddings.word_embeddings.weight.mul_(1.5)
    teacher.save_pretrained(str(tmp_path / "other"), create_model_card=False)
    tasks = tmp_path / "triples.jsonl"
    tasks.write_text('{"query": "cash", "positive": "a loan", "negative": "a dog"}\n', encoding="utf-8")
    given = {**QUICK, "texts": documents, "tasks": tasks}
    gaprune.recover(folder, parent=tmp_path / "other", out=tmp_path / "out", **given)
    assert "the teacher is other, not the parent of this model" in capsys.readouterr().err
    said = Provenance.read(tmp_path / "out")
    (recovery,) = said.recoveries
    assert (recovery.other_teacher, said.beside) == ("other", "other")
    for file in ("README.md", "report.html"):
        text = (tmp_path / "out" / file).read_text(encoding="utf-8")
        assert "cosine to other" in text
        assert "cosine to the parent" not in text
        assert "scores called the parent" in text


def test_ndcg_of_pairs():
    from sklearn.metrics import ndcg_score

    queries, passages = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0))
    cosines = functional.cosine_similarity(queries[:, None], passages[None], dim=-1)
    assert pair_ndcg(queries, passages) == pytest.approx(ndcg_score(torch.eye(40), cosines, k=10), abs=1e-6)


def test_triplets_finish_after_texts(folder, documents, many, tmp_path):
    result = gaprune.recover(folder, texts=documents, domain=many, steps=2, out=tmp_path / "out", **QUICK)
    first, second = Provenance.read(tmp_path / "out").recoveries
    assert first.loss.keys() == {"distance to the parent's embeddings", "distance to the parent's similarities"}
    assert second.loss.keys() == {"contrastive"}
    assert (first.training.distillation, second.training.steps) == (result.records[0].training.distillation, 2)


@pytest.mark.parametrize("killed", [2, 5])
def test_killed_and_resumed(folder, documents, many, tmp_path, monkeypatch, killed):
    """In the distillation, and in the fine-tuning on triplets after it."""
    asked = {"texts": documents, "domain": many, "steps": 3, "evaluate_every": 1, **QUICK, "tokens": 500}
    whole = gaprune.recover(folder, out=tmp_path / "whole", **asked)
    step, taken = RecoveryTrainer.training_step, []

    def kill(self, *args, **options):
        taken.append(0)
        if len(taken) == killed:
            raise KeyboardInterrupt
        return step(self, *args, **options)

    monkeypatch.setattr(RecoveryTrainer, "training_step", kill)
    with pytest.raises(KeyboardInterrupt):
        gaprune.recover(folder, out=tmp_path / "out", **asked)
    monkeypatch.setattr(RecoveryTrainer, "training_step", step)
    resumed = gaprune.recover(folder, out=tmp_path / "out", resume=True, **asked)
    assert weights_fingerprint(resumed.model) == weights_fingerprint(whole.model)
    assert resumed.records[0].training.distillation == whole.records[0].training.distillation
    assert not (tmp_path / "out.checkpoints").exists()


@pytest.mark.parametrize("spent", ["spent", "prepared"])
def test_a_resumed_training_has_the_time_that_is_left(folder, documents, tmp_path, monkeypatch, spent):
    """The checkpoint says that all of it is spent, on steps or on the parent's embeddings, so one more is made."""
    asked = {"texts": documents, "evaluate_every": 1, "minutes": 100, **QUICK, "tokens": 500}
    step, out = RecoveryTrainer.training_step, tmp_path / "out"

    def kill(self, *args, **options):
        if self.state.global_step == 1:
            raise KeyboardInterrupt
        return step(self, *args, **options)

    monkeypatch.setattr(RecoveryTrainer, "training_step", kill)
    with pytest.raises(KeyboardInterrupt):
        gaprune.recover(folder, out=out, **asked)
    monkeypatch.setattr(RecoveryTrainer, "training_step", step)
    (file,) = tmp_path.glob("out.checkpoints/texts/checkpoint-1/trainer_state.json")
    state = json.loads(file.read_text(encoding="utf-8"))
    state["stateful_callbacks"]["Steering"]["attributes"][spent] += 1e5
    file.write_text(json.dumps(state), encoding="utf-8")
    resumed = gaprune.recover(folder, out=out, resume=True, **asked)
    assert resumed.training.steps == 2 < resumed.records[0].steps
    assert (resumed.training.seconds > 1e5) == (spent == "spent")


def test_a_distillation_that_the_time_ended_is_not_continued(folder, documents, many, tmp_path, monkeypatch):
    """It is interrupted in the fine-tuning."""
    domain = triplets_file(tmp_path / "many.jsonl", many)
    asked = {"texts": documents, "domain": domain, "evaluate_every": 1, "minutes": 100, "steps": 2, **QUICK}
    step, out = RecoveryTrainer.training_step, tmp_path / "out"

    def kill(self, *args, **options):
        if "triplets" in str(self.args.output_dir):
            raise KeyboardInterrupt
        return step(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RecoveryTrainer, "training_step", kill)
        patch.setattr(Steering, "spent", 1e5)
        with pytest.raises(KeyboardInterrupt):
            gaprune.recover(folder, out=out, **asked)
    first, _ = gaprune.recover(folder, out=out, resume=True, **asked).records
    assert first.training.steps == 1 < first.steps


def test_the_parents_embeddings_continue_where_they_stopped(bert, many, quick, tmp_path, monkeypatch):
    texts = [("query", item.query) for item in many]
    options = quick(distil=True, teacher_cache=tmp_path / "whole")
    whole = embed_with_teacher(bert, texts, options, fingerprint="parent")
    (path,) = (tmp_path / "whole").iterdir()
    half = path.read_bytes()[: path.stat().st_size // 2 + 1]  # the last row is not complete
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / path.with_suffix(".unfinished").name).write_bytes(half)
    embedded = []
    encode = type(bert).encode
    monkeypatch.setattr(
        type(bert), "encode", lambda self, some, **given: embedded.extend(some) or encode(self, some, **given)
    )
    again = embed_with_teacher(bert, texts, quick(distil=True, teacher_cache=folder), fingerprint="parent")
    assert len(embedded) == len(many) // 2 + 1, "half of them, and one for the size of a row"
    assert np.allclose(whole.embeddings, again.embeddings, atol=1e-3)
    assert [each.name for each in folder.iterdir()] == [path.name]


def test_another_width_gets_a_head(bert, folder_of, many, tmp_path, quick):
    parent = load_model(folder_of("bert"), device="cpu")
    some = {"query": [item.query for item in many], "passage": [item.positive for item in many]}
    with torch.no_grad():
        bert.get_parameter("0.model.encoder.layer.0.output.dense.weight")[::2] = 0
    add_head(bert, pca_head(bert, some, 6, prompts=resolve_prompts(bert)))
    options = quick(texts="texts", tokens=3000, learning_rate=1e-3, teacher_cache=tmp_path / "cache", bf16=False)
    texts = TextData.of(texts_of_triplets(many, "many"), None, options)
    (stage,) = retrain(bert, parent, options, Checkpoints(tmp_path / "points"), texts=texts)
    points = stage.training.distillation
    assert bert.get_embedding_dimension() == parent.get_embedding_dimension()
    assert min(point.held_out_cosine for point in points) > 0.9


def test_it_ends_in_time(bert, folder_of, many, tmp_path, quick, monkeypatch):
    """The speed was measured wrongly: both trainings end when the time is over, and look at the held-out texts."""
    monkeypatch.setattr("gaprune.recovery.retrain.measure_speed", lambda *_: Speed(1e9, 1e5, 1e5, 0.1))
    parent = load_model(folder_of("bert"), device="cpu")
    given = {"texts": "texts", "minutes": 0.05, "batch_size": 2, "steps": 2000, "bf16": False}
    options = quick(**given, teacher_cache=tmp_path / "cache")
    texts, triplets = (
        TextData.of(texts_of_triplets(many[:6], "many"), None, options),
        read_recovery_data(options, domain=many),
    )
    first, last = retrain(bert, parent, options, Checkpoints(tmp_path / "points"), texts=texts, triplets=triplets)
    assert first.training.steps < len(first.data.packed.batches)
    assert first.training.distillation[-1].step == first.training.steps
    assert last.training.steps < 2000


def test_a_time_is_turned_into_tokens():
    speed = Speed(parent=2000.0, child=500.0, a_pass=100_000.0, new=0.2)
    for seconds in (10, 100, 1000):
        assert speed.seconds(speed.tokens(seconds)) == pytest.approx(seconds, rel=1e-3)
    looks = [speed.tokens(seconds) for seconds in (10, 100, 1000)]
    assert all(one < other for one, other in pairwise(looks))


def test_the_door_for_other_verbs(bert, folder_of, many, tmp_path, quick):
    """A time budget, without a command; the child's weights are only changed by training."""
    parent = load_model(folder_of("bert"), device="cpu")
    with torch.no_grad():
        bert.get_parameter("0.model.encoder.layer.0.output.dense.weight")[::2] = 0
    options = quick(texts="texts", minutes=2, tokens=2000, distil=True, teacher_cache=tmp_path / "cache", bf16=False)
    texts = TextData.of(texts_of_triplets(many, "many"), None, options)
    stages = retrain(
        bert, parent, options, Checkpoints(tmp_path / "points", resumable=True), texts=texts,
        triplets=read_recovery_data(options, domain=many), parent_sha256="parent",
    )  # fmt: skip
    assert [type(stage.data).__name__ for stage in stages] == ["TextData", "RecoveryData"]
    assert stages[0].training.masked_weights == stages[1].training.masked_weights > 0
    assert stages[0].training.distillation[-1].tokens <= 2000 + 200


@pytest.mark.parametrize(
    ("given", "error", "problem"),
    [
        ({"tokens": "2x"}, ConfigError, "^tokens: '2x' is not a number; write"),
        (
            {"texts": None, "domain": "x", "tokens": None, "minutes": 2},
            ConfigError,
            "minutes: nothing is distilled on texts",
        ),
        ({"texts": "/no/where.txt"}, DataError, "where.txt"),
        ({"minutes": 1e-6, "tokens": None}, ConfigError, "^minutes: 1e-06 are too few: 20 steps"),
    ],
    ids=str,
)
def test_refused(folder, documents, tmp_path, given, error, problem):
    with pytest.raises(error, match=problem):
        gaprune.recover(folder, out=tmp_path / "out", **{"texts": documents, **QUICK, **given})
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.checkpoints").exists()
