"""Tiny models built as families are not: shared blocks, mixers of other libraries, weights that are not plain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from families import FAMILIES, Builder

__all__ = ["OBSTACLES", "OTHERS", "build_albert", "build_other", "mix"]

_FFN = "encoder.layer.1.intermediate.dense"


def _albert(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
    """Three layers that are one and the same."""
    config = transformers.AlbertConfig(
        vocab_size=vocabulary,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        pad_token_id=pad,
    )
    return transformers.AlbertModel(config, add_pooling_layer=False)


def build_albert(folder: Path) -> Path:
    """Write a tiny ALBERT and return its folder."""
    bert = FAMILIES["bert"]
    return Builder(_albert, bert.tokenizer, bert.tokens, "encoder.albert_layer_groups", mlp=(), attention=())(folder)


_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_SIZES |= {"max_position_embeddings": 64}
_STACKS = {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
_STACKS |= {"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
_DISENTANGLED = {
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
}
_EXPERTS = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
_GROUPS = dict.fromkeys(("q_groups", "k_groups", "v_groups", "post_attention_groups"), 1)
_GROUPS |= {"embedding_size": 32, "intermediate_groups": 1, "output_groups": 1}

_COMPRESSED = {"kv_lora_rank": 8, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}

OTHERS: dict[str, dict[str, object]] = {
    "MT5Encoder": _T5,
    "Phi3": _SIZES | {"num_key_value_heads": 2},
    "OPT": {field: size for field, size in _SIZES.items() if field != "intermediate_size"}
    | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "DebertaV2": _SIZES | _DISENTANGLED | {"share_att_key": True},
    "NomicBert": _SIZES | {"type_vocab_size": 2},
    "Gte": _SIZES,
    "EuroBert": _SIZES,
    "JinaEmbeddingsV3": _SIZES,
    "Roberta": _SIZES | {"type_vocab_size": 1},
    "MobileBert": _SIZES | {"embedding_size": 32, "true_hidden_size": 16, "intra_bottleneck_size": 16},
    "Longformer": _SIZES | {"type_vocab_size": 1, "attention_window": [10, 10]},
    "Bart": _STACKS | {"d_model": 32, "max_position_embeddings": 64},
    "Qwen3Moe": _SIZES | _EXPERTS,
    "SqueezeBert": _SIZES | _GROUPS,
    "DiffLlama": _SIZES | {"num_key_value_heads": 4},
    "Helium": _SIZES | {"num_key_value_heads": 4, "head_dim": 8},
    "MiniCPM3": _SIZES | _COMPRESSED | {"num_key_value_heads": 4, "scale_depth": 1.4},
    "GPT2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "scale_attn_by_inverse_layer_idx": True},
}
"""Fields of the configurations of further families, by the beginning of their class's name."""


def build_other(name: str, folder: Path) -> Path:
    """Write a tiny model of one of :data:`OTHERS` and return its folder."""

    def network(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
        config = getattr(transformers, f"{name.removesuffix('Encoder')}Config")
        ends = (
            {"bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2} if name != "JinaEmbeddingsV3" else {}
        )
        made = config(**{"vocab_size": vocabulary, "pad_token_id": pad} | ends | OTHERS[name])
        return getattr(transformers, f"{name}Model")(made)

    bert = FAMILIES["bert"]
    return Builder(network, bert.tokenizer, bert.tokens, "", mlp=(), attention=())(folder)


class MHA(nn.Module):
    """Attention as flash-attn has it: one projection to queries, keys and values."""

    fused = "Wqkv"

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.add_module(self.fused, nn.Linear(hidden, 3 * hidden))
        self.out_proj = nn.Linear(hidden, hidden)
        self.heads = heads

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        projected = self.get_submodule(self.fused)(hidden)
        queries, keys, values = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Fused(MHA):
    """The same, with names that tell nothing."""

    fused = "inner"


class Convolution(nn.Module):
    """A gated short convolution, whose linear layers have the shapes of attention."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        del heads
        self.in_proj = nn.Linear(hidden, 3 * hidden)
        self.conv = nn.Conv1d(hidden, hidden, 3, padding=1, groups=hidden)
        self.out_proj = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        del mask
        before, after, values = self.in_proj(hidden).chunk(3, dim=-1)
        return self.out_proj(after * self.conv((before * values).transpose(1, 2)).transpose(1, 2))


class StateSpace(nn.Module):
    """A selective state space in outline: its linear layers widen and narrow as an MLP's do."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        del heads
        self.in_proj = nn.Linear(hidden, 4 * hidden)
        self.decay = nn.Parameter(torch.ones(2 * hidden, 4))
        self.out_proj = nn.Linear(2 * hidden, hidden)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        del mask
        values, gate = self.in_proj(hidden).chunk(2, dim=-1)
        return self.out_proj(values.cumsum(1) * self.decay.sum(1) * gate.sigmoid())


class _Mlp(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(hidden)))


class _Block(nn.Module):
    """A block as flash-attn has it: a mixer and a part called nothing in particular."""

    def __init__(self, mixer: Callable[[int, int], nn.Module], hidden: int, heads: int) -> None:
        super().__init__()
        self.mixer, self.channels = mixer(hidden, heads), _Mlp(hidden)
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: object, **__: object) -> Tensor:
        mixed = self.norm1(hidden_states + self.mixer(hidden_states, attention_mask))
        return self.norm2(mixed + self.channels(mixed))


def mix(bert: nn.Module, name: str) -> nn.Module:
    """Return a BERT with blocks whose mixer is one of those above."""
    mixer = {each.__name__: each for each in (MHA, Fused, Convolution, StateSpace)}[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = bert.transformers_model.encoder
        encoder.layer = nn.ModuleList(_Block(mixer, 32, 4) for _ in encoder.layer)
    return bert.eval()


class _Bfloat(nn.Parameter):
    """As the weights of quantisation libraries are: a class of their own."""


def _replace(bert: nn.Module, path: str, make: Callable[[nn.Linear], nn.Module]) -> None:
    parent, _, name = path.rpartition(".")
    network = bert.transformers_model
    setattr(network.get_submodule(parent), name, make(network.get_submodule(path)))


class _LowRank(nn.Module):
    """An update of low rank, as jina-embeddings-v3 parametrizes its layers."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.ones(rows, 2)), nn.Parameter(torch.zeros(2, columns))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def _parametrized(bert: nn.Module) -> None:
    layer = bert.transformers_model.get_submodule(_FFN)
    parametrize.register_parametrization(layer, "weight", _LowRank(*layer.weight.shape))


def _weight_norm(bert: nn.Module) -> None:
    parametrizations.weight_norm(bert.transformers_model.get_submodule(_FFN))


def _masked(bert: nn.Module) -> None:
    prune.l1_unstructured(bert.transformers_model.get_submodule(_FFN), "weight", amount=0.2)


def _integers(bert: nn.Module) -> None:
    layer = bert.transformers_model.get_submodule(_FFN)
    layer.weight = nn.Parameter((layer.weight * 50).to(torch.int8), requires_grad=False)


def _subclass(bert: nn.Module) -> None:
    layer = bert.transformers_model.get_submodule(_FFN)
    layer.weight = _Bfloat(layer.weight.detach())


def _packed(bert: nn.Module) -> None:
    layer = bert.transformers_model.get_submodule(_FFN)
    layer.weight = nn.Parameter(layer.weight.detach().flatten()[:, None])


class _Quantised(nn.Module):
    """A linear layer that is not one of torch's."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("qweight", linear.weight.detach())

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.linear(values, self.qweight)


def _other_class(bert: nn.Module) -> None:
    _replace(bert, _FFN, _Quantised)


def _adapter(bert: nn.Module) -> None:
    from peft import LoraConfig

    bert.transformers_model.add_adapter(LoraConfig(r=2, target_modules=[_FFN.partition("layer.")[2]]))


def _one_module(bert: nn.Module) -> None:
    layers = bert.transformers_model.encoder.layer
    layers[1].intermediate.dense = layers[0].intermediate.dense


def _one_block(bert: nn.Module) -> None:
    layers = bert.transformers_model.encoder.layer
    layers[1] = layers[0]


def _one_weight(bert: nn.Module) -> None:
    layers = bert.transformers_model.encoder.layer
    layers[1].intermediate.dense.weight = layers[0].intermediate.dense.weight


def _one_memory(bert: nn.Module) -> None:
    layers = bert.transformers_model.encoder.layer
    layers[1].intermediate.dense.weight = nn.Parameter(layers[0].intermediate.dense.weight.data)


OBSTACLES: dict[str, tuple[Callable[[nn.Module], None], str, str]] = {
    "parametrized": (_parametrized, "layer.1.intermediate.dense is parametrized", "remove_parametrizations"),
    "weight norm": (_weight_norm, "layer.1.intermediate.dense is parametrized", "remove_parametrizations"),
    "masked": (_masked, "layer.1.intermediate.dense computes its weight anew", "prune.remove"),
    "integers": (_integers, "layer.1.intermediate.dense keeps its weight quantised", "unquantised"),
    "subclass": (_subclass, "layer.1.intermediate.dense keeps its weight quantised", "unquantised"),
    "packed": (_packed, "layer.1.intermediate.dense keeps its weight quantised", "unquantised"),
    "other class": (_other_class, "layer.1.intermediate.dense is a unusual._Quantised", "unquantised"),
    "adapter": (_adapter, "layer.1.intermediate.dense carries an adapter", "Merge the adapter"),
    "one module": (_one_module, "layer.0.intermediate.dense shares its weight", "a weight of its own"),
    "one block": (_one_block, "shares its weight", "a weight of its own"),
    "one weight": (_one_weight, "layer.0.intermediate.dense shares its weight", "a weight of its own"),
    "one memory": (_one_memory, "layer.0.intermediate.dense shares its weight", "a weight of its own"),
}
"""Makes a layer of a BERT one whose weight cannot be changed, words of the error and of the way out."""
