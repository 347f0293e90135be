"""The loss against plain torch."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.nn import functional

from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from gaprune.recovery.batches import row
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import data_set, read_recovery_data
from gaprune.recovery.losses import RecoveryLoss, make_loss
from gaprune.recovery.recover_model import recover_model
from gaprune.recovery.teacher import embed_with_teacher


@pytest.fixture
def parent(family_folder):
    return load_model(family_folder, device="cpu")


def teacher_of(parent, corpus, options, folder):
    cached = options.model_copy(update={"teacher_cache": str(folder)})
    return embed_with_teacher(parent, corpus.texts([options]), cached, fingerprint="parent")


def plain(model, rows, parent, options, teacher):
    """The weighted sum, one text at a time; the parent's embeddings are those kept in float16, which are checked."""

    def embed(of, text, role):
        features = of.preprocess([text], prompt=resolve_prompts(of).of(role))
        return of(features)["sentence_embedding"][0]

    roles = ("query", "passage", "passage")[: len(rows[0])]
    mine = [[embed(model, row[i], role) for row in rows] for i, role in enumerate(roles)]
    with torch.no_grad():
        its = [[embed(parent, row[i], role) for row in rows] for i, role in enumerate(roles)]
    if teacher is not None:
        at = [[teacher.index[role, row[i]] for row in rows] for i, role in enumerate(roles)]
        kept = [[torch.tensor(teacher.embeddings[each]).float() for each in column] for column in at]
        for one, other in zip(chain(*its), chain(*kept), strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)
        its = kept
    candidates = (its if options.fixed_targets else mine)[1:]
    total = torch.tensor(0.0)
    for number, query in enumerate(mine[0]):
        logits = torch.stack([functional.cosine_similarity(query, p, dim=0) for p in chain(*candidates)]) / 0.05
        total = total + options.contrastive_weight * (torch.logsumexp(logits, 0) - logits[number]) / len(rows)
    mine, its = list(chain(*mine)), list(chain(*its))
    texts = len(mine)
    if options.distil:
        for one, other in zip(mine, its, strict=True):
            distance = 1 - functional.cosine_similarity(one, other, dim=0)
            total = total + options.embedding_weight * distance / texts
        for i in range(texts):
            for j in range(texts):
                if i != j:
                    here = functional.cosine_similarity(mine[i], mine[j], dim=0)
                    there = functional.cosine_similarity(its[i], its[j], dim=0)
                    total = total + options.similarity_weight * (here - there) ** 2 / (texts * (texts - 1))
    return total


@pytest.mark.parametrize("family", ["bert", "qwen3", "xlm-roberta"], indirect=True)
@pytest.mark.parametrize(
    "given",
    [{}, {"distil": True}, {"distil": True, "contrastive_weight": 0}, {"distil": True, "fixed_targets": True}],
    ids=str,
)
@pytest.mark.parametrize("negatives", [0, 1])
@pytest.mark.parametrize("mini", [None, 2])
def test_loss_and_gradient(pruned, parent, quick, many, tmp_path, given, negatives, mini):
    options = quick(held_out=0, mini_batch_size=mini, hard_negatives=negatives, **given)
    corpus = read_recovery_data(options, domain=many[:6])
    assert corpus.negatives == negatives
    teacher = teacher_of(parent, corpus, options, tmp_path) if options.distil else None
    items = corpus.plan(options)[0][:5]
    rows = data_set(items, corpus.columns, teacher)[:]
    prompts = resolve_prompts(pruned)
    features = [pruned.preprocess(rows[name], prompt=prompts.of(role)) for name, role in corpus.columns.items()]
    labels = torch.tensor(rows["label"]) if teacher else None
    pruned.eval().requires_grad_()
    loss = make_loss(pruned, RecoveryLoss(options, teacher, gather=False))(features, labels)
    loss = torch.stack(list(loss.values())).sum() if isinstance(loss, dict) else loss
    loss.backward()
    weight = linear_layers(pruned)[1].module.weight
    found = weight.grad.clone()
    pruned.zero_grad()
    wanted = plain(pruned, [row(item, corpus.negatives) for item in items], parent, options, teacher)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert torch.allclose(found, weight.grad, rtol=1e-3, atol=1e-5 * float(weight.grad.abs().max()) + 1e-7)


@pytest.mark.parametrize("mini", [None, 2])
def test_only_the_dimensions_that_a_model_gives_count(folder_of, quick, many, tmp_path, mini):
    parent, child = (load_model(folder_of("bert"), device="cpu") for _ in range(2))
    options = quick(held_out=0, mini_batch_size=mini, hard_negatives=0, distil=True)
    corpus = read_recovery_data(options, domain=many[:6])
    child.truncate_dim = parent.truncate_dim = 16
    teacher = teacher_of(parent, corpus, options, tmp_path)
    assert teacher.embeddings.shape[1] == 16
    rows = data_set(corpus.plan(options)[0], corpus.columns, teacher)[:]
    features = [child.preprocess(rows[name]) for name in corpus.columns]
    loss = make_loss(child.eval(), RecoveryLoss(options, teacher, gather=False))(features, torch.tensor(rows["label"]))
    loss = torch.stack(list(loss.values())).sum() if isinstance(loss, dict) else loss
    mine = [torch.from_numpy(child.encode(rows[name])) for name in corpus.columns]
    logits = functional.cosine_similarity(mine[0][:, None], mine[1][None], dim=-1) / 0.05
    wanted = functional.cross_entropy(logits, torch.arange(len(logits)))
    assert loss.item() == pytest.approx(wanted.item(), abs=2e-3), "the distance to the parent is none"


def test_embeddings_are_computed_once(bert, quick, many, tmp_path, monkeypatch):
    options = quick(held_out=0.2)
    corpus = read_recovery_data(options, domain=many)
    first = teacher_of(bert, corpus, options, tmp_path)
    monkeypatch.setattr(type(bert), "encode", lambda *_args, **_options: pytest.fail("embedded again"))
    again = teacher_of(bert, corpus, options, tmp_path)
    assert (first.embeddings == again.embeddings).all()
    assert len(list(tmp_path.iterdir())) == 1


def test_embeddings_of_other_settings_are_not_reused(bert, quick, many, tmp_path):
    options = quick(held_out=0.2)
    corpus = read_recovery_data(options, domain=many)
    teacher_of(bert, corpus, options, tmp_path)
    bert.transformers_model.config.hidden_act = "relu"
    teacher_of(bert, corpus, options, tmp_path)
    teacher_of(bert.bfloat16(), corpus, options, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("negatives", [0, 1])
def test_only_what_is_trained_on_is_embedded(bert, quick, many, tmp_path, negatives):
    options = quick(steps=2, held_out=0.2, hard_negatives=negatives)
    corpus = read_recovery_data(options, domain=many)
    teacher = teacher_of(bert, corpus, options, tmp_path)
    triplets, batches = corpus.plan(options)
    assert sorted(index for batch in batches for index in batch) == list(range(12)) == list(range(len(triplets)))
    texts = 2 + negatives
    assert len(teacher.index) == texts * (len(triplets) + len(corpus.held_out)) < texts * len(many)


def test_distillation_alone_comes_nearer(bert, folder_of, quick, many, tmp_path):
    with torch.no_grad():
        for matrix in linear_layers(bert):
            matrix.module.weight[matrix.module.weight.abs() < 0.15] = 0
    options = quick(steps=8, distil=True, contrastive_weight=0, held_out=0.2, learning_rate=2e-3)
    corpus = read_recovery_data(options, domain=many)
    teacher = teacher_of(load_model(folder_of("bert"), device="cpu"), corpus, options, tmp_path / "cache")
    went = recover_model(bert, corpus, options, Checkpoints(tmp_path / "points"), teacher=teacher)
    assert went.before.keys() == {"loss", "embedding", "similarity"}
    assert went.after["loss"] < 0.9 * went.before["loss"]


def test_a_loss_that_is_not_finite(bert, quick, many, tmp_path):
    with torch.no_grad():
        bert.get_parameter("0.model.embeddings.LayerNorm.weight").fill_(torch.nan)
    options = quick(held_out=0)
    with pytest.raises(MeasurementError, match=r"^The loss of step 1 is not finite"):
        recover_model(bert, read_recovery_data(options, domain=many), options, Checkpoints(tmp_path))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"contrastive_weight": 0}, "contrastive_weight: 0 leaves nothing to learn"),
        ({"distil": True, "embedding_weight": 0, "similarity_weight": 0}, "distil: both of its weights are 0"),
        ({"patience": 2, "held_out": 0}, "patience: there is no held-out loss"),
        ({"stepps": 2}, "Unknown option 'stepps'. Did you mean 'steps'"),
    ],
)
def test_options_that_make_no_sense(quick, given, problem):
    with pytest.raises(ConfigError, match=problem):
        quick(**given)
