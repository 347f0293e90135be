"""GGUF of BERT, Qwen3 and Gemma 3, for llama.cpp and what builds on it, by the gguf package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gaprune.errors import ModelError, require_extra
from gaprune.export.formats.base import ExportFormat, register
from gaprune.export.gguf_tokens import add_tokens, kind_of
from gaprune.models.blocks import transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_USAGE = """\
`model.gguf` holds the model, its pooling and its tokenizer. llama.cpp opens it:

```sh
llama-embedding -m model.gguf -p "a text"
llama-server -m model.gguf --embeddings
```

It makes embeddings of length one, cuts no text, and adds no prompts.
"""
_POOLING = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
_ACTIVATIONS = {"bert": "gelu", "qwen3": "silu", "gemma3_text": "gelu_pytorch_tanh"}
"""The families that are written, and the activation that llama.cpp has for each."""


@register
class Gguf(ExportFormat):
    """One GGUF file in fp32."""

    name: ClassVar[str] = "gguf"
    runtime: ClassVar[str] = "llama.cpp"
    runs_here: ClassVar[bool] = False

    def check(self) -> None:
        """Check options and installed packages, before the model is loaded."""
        super().check()
        require_extra("Exporting to gguf", "gguf", "gguf")

    def check_model(self, model: SentenceTransformer) -> None:
        """Refuse what llama.cpp has no way to compute, by name."""
        config = transformer_of(model).config
        name = "The model" if config.model_type in _ACTIVATIONS else f"A {config.model_type} model"
        for problem in _problems(model, config):
            raise ModelError(f"{name} {problem}.", "Use --to onnx, or llama.cpp's converter on the folder.")

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:  # noqa: ARG002
        """Write ``model.gguf``."""
        import gguf

        network = transformer_of(model)
        config: Any = network.config
        pooling: Any = model[1]
        architecture = _architecture(config)
        writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
        writer.add_type("model")
        writer.add_name(self.request.folder.name)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_pooling_type(gguf.PoolingType[_POOLING[pooling.pooling_mode]])
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        if architecture == "bert":
            writer.add_layer_norm_eps(config.layer_norm_eps)
            writer.add_causal_attention(False)
            writer.add_token_type_count(config.type_vocab_size)
        else:
            _add_decoder(writer, config)
        for place, dense in enumerate(_heads(model), start=2):
            writer.add_dense_features_dims(f"dense_{place}", dense.in_features, dense.out_features)
        add_tokens(writer, model)
        for name, tensor in _tensors(model, architecture):
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return "fp32"

    def embeddings(self, *_: Any) -> None:
        """Return nothing: llama.cpp is not called from here."""
        return

    def usage(self) -> str:
        """Return the calls of llama.cpp's own programs."""
        return _USAGE


def _problems(model: SentenceTransformer, config: Any) -> Iterator[str]:
    names, heads = [type(module).__name__ for module in model], _heads(model)
    family, pooling = config.model_type, getattr(model[1], "pooling_mode", None) if len(model) > 1 else None
    if family not in _ACTIVATIONS:
        yield f"is not written as GGUF here; {', '.join(_ACTIVATIONS)} are"
    allowed = ["Transformer", "Pooling", *(["Dense"] * len(heads) if family == "gemma3_text" else [])]
    if names not in (allowed, [*allowed, "Normalize"]):
        yield f"consists of {', '.join(names)}; GGUF has room for pooling and normalisation"
    elif not (model[1].include_prompt and pooling in _POOLING):
        yield f"pools by {pooling}; GGUF knows {', '.join(_POOLING)}, with the prompt"
    if heads and not _are_two_of_gemma(heads, config.hidden_size):
        yield "has linear layers after pooling that are not two without bias and activation, back to the hidden size"
    if kind_of(model) is None:
        yield "splits texts by rules that llama.cpp has no name for"
    activation = getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", None)
    if activation != _ACTIVATIONS[family]:
        yield f"has the activation {activation}; llama.cpp computes {_ACTIVATIONS[family]}"
    if family != "bert":
        yield from _problems_of_a_decoder(config)


def _problems_of_a_decoder(config: Any) -> Iterator[str]:
    if getattr(config, "attention_bias", False):
        yield "has biases in attention, which llama.cpp does not read"
    if any(rope.get("rope_type", "default") != "default" for rope in _ropes(config).values()):
        yield "scales its rotary positions, which is not written here"
    if config.model_type == "qwen3" and "sliding_attention" in config.layer_types:
        yield "has layers with sliding attention, which llama.cpp does not have for Qwen3"
    if config.model_type == "gemma3_text" and config.query_pre_attn_scalar != config.head_dim:
        yield "scales attention by something else than the size of a head"
    if _architecture(config) == "gemma-embedding" and len(set(config.layer_types)) == 1:
        yield f"has no layer but those of {config.layer_types[0]}; llama.cpp needs one of each type, or stops"


def _architecture(config: Any) -> str:
    """Return llama.cpp's name; Gemma 3 has one name with causal attention and another without."""
    if config.model_type == "gemma3_text":
        return "gemma-embedding" if config.use_bidirectional_attention else "gemma3"
    return str(config.model_type)


def _add_decoder(writer: Any, config: Any) -> None:
    ropes = _ropes(config)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(ropes["full_attention"]["rope_theta"])
    if config.model_type == "gemma3_text":
        # transformers holds the largest distance plus one, llama.cpp the width of the window to both sides
        window = 2 * (config.sliding_window - 1) if config.use_bidirectional_attention else config.sliding_window
        writer.add_sliding_window(window)
        writer.add_sliding_window_pattern([each == "sliding_attention" for each in config.layer_types])
        writer.add_rope_freq_base_swa(ropes["sliding_attention"]["rope_theta"])


def _ropes(config: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of rotary positions by type of layer."""
    found: dict[str, Any] = config.rope_parameters
    return {"full_attention": found} if "rope_theta" in found else found


def _heads(model: SentenceTransformer) -> list[Any]:
    return [module for module in model if type(module).__name__ == "Dense"]


def _are_two_of_gemma(heads: Sequence[Any], hidden: int) -> bool:
    plain = all(head.linear.bias is None and type(head.activation_function).__name__ == "Identity" for head in heads)
    return plain and len(heads) == 2 and (heads[0].in_features, heads[1].out_features) == (hidden, hidden)


def _tensors(model: SentenceTransformer, architecture: str) -> Iterator[tuple[str, Any]]:
    """Yield the name in GGUF and the values in fp32 of every weight.

    Raises:
        ModelError: If there is a weight that GGUF has no name for.
    """
    import gguf

    network = transformer_of(model)
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, network.config.num_hidden_layers)
    for name, tensor in network.state_dict().items():
        if name.startswith("pooler."):
            continue
        known = names.get_name(name if architecture == "bert" else f"model.{name}", try_suffixes=(".weight", ".bias"))
        if known is None:
            raise ModelError(f"GGUF has no name for the weight {name}.", "Use --to onnx.")
        values = tensor.float()
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            values = values + 1  # transformers multiplies by one more than the weight, llama.cpp by the weight
        yield known, values.contiguous().numpy()
    for place, dense in enumerate(_heads(model), start=2):
        yield f"dense_{place}.weight", dense.linear.weight.detach().float().contiguous().numpy()
