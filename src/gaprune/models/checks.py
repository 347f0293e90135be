"""What a model must be like to be pruned, checked before anything is measured."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from torch import nn

from gaprune.errors import ModelError
from gaprune.models.blocks import block_path, blocks, transformer_of
from gaprune.models.load import most_tokens
from gaprune.models.obstacles import obstacles_in
from gaprune.models.probe import Probe, probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["check_blocks", "check_layers", "check_modules", "unstreamed"]

_MERGE = "Merge the adapter into the weights (docs/usage.md, 'What a model can be') and give the merged model."


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
        routes: Mapping[str, nn.Module] = dict(router.sub_modules.items())
        if name == "0" or any(isinstance(each, Transformer) for each in router.modules()):
            towers = "; ".join(
                f"{route}: {', '.join(type(module).__name__ for module in modules.children())}"
                for route, modules in routes.items()
            )
            raise ModelError(
                f"Module {name} is a Router, whose routes are models of their own ({towers}), and GAPrune changes one "
                "model at a time.",
                f"Name the tower, and put it back afterwards: SentenceTransformer(modules=[*model[{name}]"
                f".sub_modules[{next(reversed(routes))!r}]{', *model[1:]' if len(model) > 1 else ''}]).save('tower').",
            )
    transformer = transformer_of(model)
    if not isinstance(transformer, PreTrainedModel):
        named = type(transformer).__name__
        adapted = hasattr(transformer, "peft_config")
        raise ModelError(
            f"The transformer is a {named}" + (", which carries an adapter." if adapted else ", not one of torch."),
            _MERGE if adapted else "Load it with the torch backend.",
        )
    if not isinstance(model[0], Transformer):
        raise ModelError(
            f"The model's first module is a {type(model[0]).__name__}, not a transformer.",
            "Choose a model whose modules start with a Transformer.",
        )
    adapter = next((name for name, each in transformer.named_modules() if _is_adapter(each)), None)
    if adapter is not None:
        raise ModelError(f"{adapter} carries an adapter (PEFT), which alone would be saved.", _MERGE)
    _check_stacks(transformer)
    most = most_tokens(model)
    if most is not None and (model.max_seq_length is None or model.max_seq_length > most):
        raise ModelError(
            f"The model takes texts of {model.max_seq_length} tokens, but has positions for {most}.",
            f"Set model.max_seq_length = {most}; a model that is loaded from its folder is given this limit.",
        )


def _is_adapter(module: nn.Module) -> bool:
    return isinstance(getattr(module, "base_layer", None), nn.Module)


def _check_stacks(transformer: nn.Module) -> None:
    """Refuse a transformer with a second list of blocks beside the one that would be pruned."""

    def size(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)

    path = block_path(transformer)
    if not path:
        return
    found = transformer.get_submodule(path)
    inside = {id(each) for each in found.modules()}
    other = next(
        (
            name
            for name, each in transformer.named_modules()
            if isinstance(each, nn.ModuleList)
            and id(each) not in inside
            and not path.startswith(f"{name}.")
            and 2 * size(each) >= size(found)
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


def check_blocks(model: SentenceTransformer, *, streamed: bool, measured: bool = False) -> None:
    """Run two short texts, and refuse a model whose blocks do not run as is needed.

    Args:
        model: The model.
        streamed: Whether blocks will run one at a time on ``(texts, tokens, hidden)``, as reconstruction and the
            removal of layers need it.
        measured: Whether inputs or gradients of linear layers will be measured.

    Raises:
        ModelError: If, ``streamed``, a block does not run once, or reads something else; if, ``measured``, a linear
            layer in a block does not read a row for every token.
    """
    seen = probe(model)
    reason = _unstreamed(model, seen) if streamed else None
    if reason is not None:
        raise ModelError(
            f"{reason}, so the blocks cannot run one by one.",
            "Prune weights or neurons without reconstruction (--no-reconstruct, reconstruct=False), not layers, or "
            "choose another model.",
        )
    if measured:
        _check_rows(model, seen)


def unstreamed(model: SentenceTransformer) -> str | None:
    """Return why the blocks of ``model`` cannot run one at a time; ``None`` if they can."""
    return _unstreamed(model, probe(model))


def _unstreamed(model: SentenceTransformer, seen: Probe) -> str | None:
    path, counts = block_path(transformer_of(model)), Counter(call.module for call in seen.blocks)
    for index, block in enumerate(blocks(model)):
        if counts[block] > 1:
            return f"{path}.{index} runs {counts[block]} times for a text: its weights are shared between layers"
        shapes = [call.shape for call in seen.blocks if call.module is block]
        if not shapes or shapes[0] is None or len(shapes[0]) != 3 or shapes[0][:2] != seen.texts:
            return f"{path}.{index} does not run once with an input of (texts, tokens, hidden)"
    return None


def _check_rows(model: SentenceTransformer, seen: Probe) -> None:
    names = {module: name for name, module in transformer_of(model).named_modules()}
    start = f"{block_path(transformer_of(model))}."
    for call in seen.linears:
        name = names.get(call.module, "")
        if name.startswith(start) and not _is_known(call.shape, seen.texts):
            shape = None if call.shape is None else tuple(call.shape)
            raise ModelError(
                f"{name} reads {shape} for texts of shape {None if seen.texts is None else tuple(seen.texts)}: this "
                f"{type(transformer_of(model)).__name__} pads or packs texts inside the model, and it is not known "
                "which rows are tokens.",
                "Prune without measuring (--criterion magnitude --no-reconstruct), or choose another model.",
            )


def _is_known(shape: torch.Size | None, texts: torch.Size | None) -> bool:
    """Whether a linear layer reads one row for every token or every text."""
    if shape is None or texts is None:
        return False
    return shape[:-1] in (texts, texts[:1]) or shape[:-1].numel() == texts.numel()
