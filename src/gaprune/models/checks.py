"""What a model must be like to be pruned, checked before anything is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from gaprune.errors import ModelError
from gaprune.models.blocks import block_path, blocks, transformer_of
from gaprune.models.encode import encode
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.load import MERGE, most_tokens
from gaprune.models.obstacles import obstacles_in
from gaprune.models.probe import embedding, probe
from gaprune.models.prompts import TASKS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel


def check_modules(model: SentenceTransformer) -> None:
    """Refuse a model that is more than one transformer with modules after it, of which a part would be left alone.

    Raises:
        ModelError: If queries and passages go through different transformers, if the transformer has two stacks of
            blocks, if an adapter (PEFT) is on it, or if it is no model of transformers in torch.
    """
    from sentence_transformers.base.modules import Router, Transformer
    from transformers import PreTrainedModel

    routers = {name: each for name, each in model.named_modules() if isinstance(each, Router)}
    for name, router in routers.items():
        routes = dict(router.sub_modules.items())
        if name == "0" or any(isinstance(each, Transformer) for each in router.modules()):
            towers = "; ".join(
                f"{route}: {', '.join(type(module).__name__ for module in modules.children())}"
                for route, modules in routes.items()
            )
            raise ModelError(
                f"Module {name} is a Router, whose routes are models of their own ({towers}), and GAPrune changes one "
                "model at a time.",
                f"Name the tower, and put it back afterwards: SentenceTransformer(modules=[*model[{name}]"
                f".sub_modules[{list(routes)[-1]!r}]{', *list(model)[1:]' if len(model) > 1 else ''}]).save('tower').",
            )
    check_adapter(model)
    check_routes(model)
    transformer = transformer_of(model)
    if not isinstance(transformer, PreTrainedModel):
        raise ModelError(
            f"The transformer is a {type(transformer).__name__}, not one of torch.", "Load it with the torch backend."
        )
    if not isinstance(model[0], Transformer):
        raise ModelError(
            f"The model's first module is a {type(model[0]).__name__}, not a transformer.",
            "Choose a model whose modules start with a Transformer.",
        )
    _check_stacks(transformer)
    most = most_tokens(model)
    if most is not None and (model.max_seq_length is None or model.max_seq_length > most):
        raise ModelError(
            f"The model takes texts of {model.max_seq_length} tokens, but has positions for {most}.",
            f"Set model.max_seq_length = {most}; a model that is loaded from its folder is given this limit.",
        )


def check_adapter(model: SentenceTransformer) -> None:
    """Refuse a model that carries an adapter (PEFT): of such a model the adapter alone is saved.

    Raises:
        ModelError: If it does.
    """
    for name, module in model.named_modules():
        if isinstance(getattr(module, "base_layer", None), nn.Module):
            raise ModelError(f"{name} carries an adapter (PEFT), which alone would be saved.", MERGE)


def check_routes(model: SentenceTransformer) -> None:
    """Refuse a model with a Router whose queries cannot be compared with its passages.

    Raises:
        ModelError: If there is no route for one of them, or their embeddings have other sizes.
    """
    from sentence_transformers.base.modules import Router

    if any(isinstance(each, Router) for each in model.modules()):
        with embedding():
            query, passage = (encode(model, ["a short text"], role, "").shape[1] for role in TASKS)
        if query != passage:
            raise ModelError(
                f"Embeddings of queries have {query} dimensions, those of passages {passage}; they cannot be compared"
                " with each other.",
                "Give both routes of the Router heads of one size.",
            )


def _check_stacks(transformer: PreTrainedModel) -> None:
    """Refuse a transformer with a second list of blocks beside the one that would be pruned.

    A list of less than half the size is a part of the model for texts, unless the configuration holds another one for
    texts: then it is a tower for images or sounds, however small.
    """

    def size(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)

    path = block_path(transformer)
    if not path:
        return
    found = transformer.get_submodule(path)
    inside = {id(each) for each in found.modules()}
    least = 1 if transformer.config.get_text_config() is not transformer.config else size(found) / 2
    other = next(
        (
            name
            for name, each in transformer.named_modules()
            if isinstance(each, nn.ModuleList)
            and id(each) not in inside
            and not path.startswith(f"{name}.")
            and size(each) >= least
        ),
        None,
    )
    if other is not None:
        raise ModelError(
            f"{type(transformer).__name__} has two stacks of blocks, {other} and {path}, and GAPrune changes one.",
            "Use a model with one stack: of an encoder and a decoder the encoder alone, of several modalities the "
            "one for texts.",
        )


def check_layers(model: SentenceTransformer) -> None:
    """Refuse a model with linear layers in its blocks whose weights cannot be changed.

    Raises:
        ModelError: If a layer is parametrized, quantised, wrapped by an adapter, or shares its weight with another.
    """
    check_modules(model)
    transformer = transformer_of(model)
    inside = next(name for name, module in model.named_modules() if module is transformer)
    start = f"{inside}.{block_path(transformer)}."
    for path, obstacle in obstacles_in(model).items():
        if path.startswith(start):
            raise obstacle.error(path.removeprefix(f"{inside}."))


def check_blocks(model: SentenceTransformer, *, streamed: bool) -> None:
    """Run two short texts, and refuse a model whose blocks do not run as is needed.

    Args:
        model: The model.
        streamed: Whether blocks will run one at a time on ``(texts, tokens, hidden)``, as reconstruction and the
            removal of layers need it.

    Raises:
        ModelError: If, ``streamed``, a block does not run once, or reads something else.
    """
    reason = unstreamed(model) if streamed else None
    if reason is not None:
        raise ModelError(
            f"{reason}, so the blocks cannot run one by one.",
            "Prune weights or neurons without reconstruction (--no-reconstruct, reconstruct=False), not layers, or "
            "choose another model.",
        )


def check_measurable(model: SentenceTransformer, linear_layers: Iterable[LinearLayer]) -> None:
    """Refuse layers whose inputs and gradients cannot be measured, as their rows are not tokens.

    Raises:
        ModelError: If one of them does not run, or reads something else: relative positions (DeBERTa's attention), or
            texts that the model pads or packs itself (Longformer).
    """
    for each in linear_layers:
        if not each.reads_tokens:
            raise ModelError(
                f"{each.name} cannot be measured: no text runs through it, or this "
                f"{type(transformer_of(model)).__name__} gives it other rows than the tokens of the texts.",
                f"Leave it out (--set ignore={each.name}), choose other --targets, or prune without measuring "
                "(--criterion magnitude --no-reconstruct).",
            )


def unstreamed(model: SentenceTransformer) -> str | None:
    """Return why the blocks of ``model`` cannot run one at a time; ``None`` if they can."""
    seen = probe(model)
    path, counts = block_path(transformer_of(model)), Counter(call.module for call in seen.blocks)
    for index, block in enumerate(blocks(model)):
        if counts[block] > 1:
            return f"{path}.{index} runs {counts[block]} times for a text: its weights are shared between layers"
        shapes = [call.shape for call in seen.blocks if call.module is block]
        if not shapes or shapes[0] is None or len(shapes[0]) != 3 or shapes[0][:2] != seen.texts:
            return f"{path}.{index} does not run once with an input of (texts, tokens, hidden)"
    return None
