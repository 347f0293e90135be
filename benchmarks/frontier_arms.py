"""The models of benchmarks/frontier.py: what people would take instead of a pruned model, at the same cost.

Every arm is a function of a parent, a shape, a domain and a seed. A shape is a number of layers and of FFN neurons in
each; shapes are chosen so that their measured latency is that of a cost point.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

import gaprune
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplets
from gaprune.evaluation.cost.latency import Timing, time_models
from gaprune.evaluation.cost.workload import Workload
from gaprune.models.blocks import blocks
from gaprune.models.demo import demo_model
from gaprune.models.encoders import Encoder, TorchModel
from gaprune.models.heads import add_head
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.models.units import UnitGroup, unit_groups
from gaprune.pruning.cut import remove_layers, remove_units
from gaprune.pruning.removable.units import most_important
from gaprune.reconstruction.head import fit_head
from gaprune.statistics.losses import info_nce
from recovery import COMMON
from testbed import testbed

MAX_LENGTH, TRIPLETS = 64, 256
LONG = 256
"""Tokens at which texts are cut where time is measured."""
PRUNED = {"F": "dai", "G": "random", "H": "dai", "I": "dai"}
RATES = {"A": (5e-5,), "J": (1e-3, 1e-2, 5e-2)}
"""Learning rates that are tried, if not the usual ones; that of the parent is from benchmarks/tuning.py."""
USUAL_RATES = (1e-4, 2e-4, 4e-4)
STEPS, TRIAL = 100, 25
"""Steps of training, and of trying a learning rate."""


@dataclass(frozen=True)
class Shape:
    """Layers, and FFN neurons in each."""

    layers: int
    neurons: int


def place(parent: str, models: Path | None) -> Path:
    """Return the folder of a parent: all-MiniLM-L6-v2 comes with a package, others lie in ``models``."""
    if parent == "all-MiniLM-L6-v2":
        return demo_model()
    if models is None:
        raise SystemExit(f"Name the folder that holds {parent}: frontier.py --models FOLDER")
    return models / parent


def opened(folder: Path) -> SentenceTransformer:
    """Return a parent, its texts cut at the length of all evaluations."""
    return load_model(folder, device="cpu", max_length=MAX_LENGTH)


def whole(model: SentenceTransformer) -> Shape:
    """Return the shape of a model."""
    return Shape(len(blocks(model)), unit_groups(model, "width")[0].units)


@cache
def calibration(kind: str) -> Triplets:
    """Return all calibration triplets of a kind."""
    return read_triplets(testbed() / "calibration" / f"{kind}.jsonl")


def cut(model: SentenceTransformer, layers: Sequence[int], neurons: int) -> SentenceTransformer:
    """Return a copy with these layers, and in each the neurons with the largest product of weight norms."""
    gone = sorted(set(range(len(blocks(model)))) - set(layers))
    found = remove_layers(model, gone)
    groups = unit_groups(found, "width")
    if neurons < groups[0].units:
        found = remove_units(found, groups, most_important({g.name: magnitude(g) for g in groups}, neurons))
    return found


def magnitude(group: UnitGroup) -> Tensor:
    """Return the product of the norms of the weights into and out of each neuron, ``(units,)``."""
    into = sum(producer.linear.module.weight.square().sum(1) for producer in group.producers)
    return (into * group.consumer.module.weight.square().sum(0)).sqrt().detach()


def made(arm: str, parent: SentenceTransformer, shape: Shape, domain: str, seed: int) -> SentenceTransformer:
    """Return the model of an arm without any training on triplets."""
    other = next(each for each in ("finance", "chemistry") if each != domain)
    count = len(blocks(parent))
    if arm in PRUNED:
        removed: dict[str, Any] = {}
        if shape.layers < count:
            removed |= {"depth": count - shape.layers, "layer_triplets": 32}
        units = unit_groups(parent, "width")[0].units
        if shape.neurons < units:
            removed |= {"width": 1 - shape.neurons / units}
        of = {"H": "general", "I": other}.get(arm, domain)
        data = {} if arm == "H" else {"general": sample("general", seed)}
        recipe = {"criterion": PRUNED[arm], "seed": seed, **removed}
        return gaprune.prune(parent, domain=sample(of, seed), **data, recipe=recipe).model
    if arm == "D":
        every = count / shape.layers
        return cut(parent, [int((each + 0.5) * every) for each in range(shape.layers)], shape.neurons)
    if arm == "E":
        child = cut(parent, range(shape.layers), shape.neurons)
        texts = sample(domain, seed)
        role_texts = {"query": [each.query for each in texts], "passage": [each.positive for each in texts]}
        add_head(child, fit_head(child, parent, role_texts, prompts=Prompts()))
        return child
    raise ValueError(arm)


def static(folder: Path) -> SentenceTransformer:
    """Return the static embeddings of a parent, by model2vec."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    model = SentenceTransformer(modules=[StaticEmbedding.from_distillation(str(folder), device="cpu")], device="cpu")
    limit(model, MAX_LENGTH)
    return model


def sample(kind: str, seed: int) -> Triplets:
    """Return the triplets that a model is pruned with."""
    return calibration(kind).take(TRIPLETS, seed=seed)


def trained(
    arm: str,
    model: SentenceTransformer,
    parent: SentenceTransformer,
    domain: str,
    seed: int,
    tokens: int,
    rate: float | None,
    steps: int = STEPS,
) -> tuple[SentenceTransformer, float]:
    """Return a model after distillation on so many tokens, if any, and so many steps; and its held-out loss.

    Without steps no labels are used, and the held-out loss is that of distillation.
    """
    if arm == "J":
        return train_static(model, domain, seed, rate or 0.0)
    options: dict[str, Any] = {**COMMON, "general_share": 0.0, "learning_rate": rate, "seed": seed, "steps": steps}
    options |= {"evaluate_every": steps} if steps < STEPS else {}
    del options["device"]  # that of the loaded model
    if tokens:
        options |= {"texts": testbed() / "calibration" / f"{domain}.jsonl", "tokens": tokens, "parent": parent}
        options |= {"similarity_weight": 0.0} if arm == "E" else {}
    if not steps:
        keep = ("max_length", "bf16", "seed", "texts", "tokens", "parent", "similarity_weight")
        result = gaprune.recover(model, **{name: value for name, value in options.items() if name in keep})
        return result.model, result.training.after["loss"]
    result = gaprune.recover(model, domain=testbed() / "calibration" / f"{domain}.jsonl", **options)
    return result.model, result.training.after["contrastive"]


def train_static(model: SentenceTransformer, domain: str, seed: int, rate: float) -> tuple[SentenceTransformer, float]:
    """Train static embeddings by the same contrast on as many triplets: 100 steps of 32, a few are held out."""
    triplets = list(calibration(domain).take(COMMON["triplets"], seed=seed))
    random.Random(seed).shuffle(triplets)
    aside = round(COMMON["held_out"] * len(triplets))
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(COMMON["steps"]):
        start = aside + step * COMMON["batch_size"]
        contrast(model, triplets[start : start + COMMON["batch_size"]]).backward()
        optimiser.step()
        optimiser.zero_grad()
    with torch.no_grad():
        held_out = [contrast(model, triplets[at : at + 32]) for at in range(0, aside - 31, 32)]
    return model, float(torch.stack(held_out).mean())


def contrast(model: SentenceTransformer, triplets: Sequence[Any]) -> Tensor:
    """Return the contrastive loss of a batch."""
    queries, passages = (
        model(model.preprocess(texts))["sentence_embedding"]
        for texts in ([each.query for each in triplets], [each.positive for each in triplets])
    )
    return info_nce(queries, passages, torch.arange(len(triplets)), temperature=0.05, in_batch=True).mean()


def held_out_loss(model: SentenceTransformer, domain: str) -> float:
    """Return the contrastive loss of 256 triplets that no arm was calibrated with (by seed 0)."""
    seen = set(sample(domain, 0))
    rest = [each for each in calibration(domain) if each not in seen]
    chosen = random.Random(1).sample(rest, 256)
    with torch.no_grad():
        found = [contrast(model.eval(), chosen[at : at + 32]) for at in range(0, len(chosen), 32)]
    return float(torch.stack(found).mean())


class StaticModel(TorchModel):
    """Static embeddings as an encoder: their module makes no mask."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of every text."""
        tokenizer: Any = self.model[0].tokenizer
        return [len(each.ids) for each in tokenizer.encode_batch(list(texts))]


# Cost


def timings(models: Sequence[Encoder], *, rounds: int, batch: tuple[int, int] = (1, 32)) -> list[Timing]:
    """Return the time of models in turn, in processor time on one thread: what else runs does not count."""
    workload = Workload.build({"batch_sizes": (batch[0],), "lengths": (batch[1],), "rounds": rounds})
    return [one for (one,) in time_models(models, workload, clock=time.process_time)]


def latency_model(parent: SentenceTransformer) -> tuple[float, float, float]:
    """Return what a text of 32 tokens takes in parts of the parent's time: fixed, by layer, by layer and neuron."""
    top = whole(parent)
    shapes = [
        Shape(layers, neurons)
        for layers in sorted({1, top.layers // 3, top.layers // 2, top.layers})
        for neurons in (top.neurons, top.neurons // 4)
    ]
    models = [TorchModel(cut(parent, range(each.layers), each.neurons)) for each in shapes]
    seconds = [each.median for each in timings(models, rounds=15)]
    inputs = np.array([[1, each.layers, each.layers * each.neurons] for each in shapes])
    base = seconds[shapes.index(top)]
    return tuple(np.linalg.lstsq(inputs, np.array(seconds) / base, rcond=None)[0])


def shapes_at(speedup: float, model: tuple[float, float, float], top: Shape) -> list[Shape]:
    """Return the shapes with this latency, the fewest layers first; neurons in steps of 64."""
    fixed, layer, neuron = model
    found = []
    for layers in range(1, top.layers + 1):
        neurons = ((1 / speedup - fixed) / layers - layer) / neuron
        rounded = 64 * round(neurons / 64)
        if layers * (layer + neuron * top.neurons) + fixed < 0.95 / speedup or rounded < 64:
            continue
        found.append(Shape(layers, min(rounded, top.neurons)))
    return found


def save(model: SentenceTransformer, folder: Path) -> Path:
    """Write a model whose texts are not cut at the length of the evaluations."""
    limit(model, LONG)
    model.save_pretrained(str(folder), create_model_card=False)
    limit(model, MAX_LENGTH)
    return folder


def limit(model: SentenceTransformer, tokens: int) -> None:
    """Let a model cut texts at so many tokens; static embeddings leave that to their tokenizer."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    if isinstance(model[0], StaticEmbedding):
        model[0].tokenizer.enable_truncation(tokens)
    else:
        model.max_seq_length = tokens


def as_dict(shape: Shape) -> dict[str, int]:
    """Return plain data for JSON."""
    return asdict(shape)
