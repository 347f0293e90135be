"""GGUF of BERT models, for llama.cpp and what builds on it, by the gguf package.

llama.cpp's own converter recognises a tokenizer by how it splits a certain text, so it refuses a vocabulary that was
cut. The rule by which words are split is the parent's, and for WordPiece it is always the same; it is written here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gaprune.errors import ModelError, require_extra
from gaprune.export.formats.base import ExportFormat
from gaprune.export.formats.registry import register
from gaprune.models.blocks import transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Gguf"]

_USAGE = """\
`model.gguf` holds the model, its pooling and its tokenizer. llama.cpp opens it:

```sh
llama-embedding -m model.gguf -p "a text"
```
"""
_POOLING = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
_PRE = "jina-v2-en"
"""What llama.cpp's converter writes for BERT's WordPiece; its runtime splits by the model ``bert`` alone."""

_SPECIAL = {"bos": "cls_token_id", "eos": "sep_token_id", "unk": "unk_token_id", "sep": "sep_token_id"} | {
    "pad": "pad_token_id",
    "mask": "mask_token_id",
}
"""Roles in llama.cpp by the token of BERT that has it."""


@register
class Gguf(ExportFormat):
    """One GGUF file in fp32."""

    name: ClassVar[str] = "gguf"
    runtime: ClassVar[str] = "llama.cpp"

    def check(self) -> None:
        """Check options and installed packages, before the model is loaded."""
        super().check()
        require_extra("Exporting to gguf", "gguf", "gguf")

    def check_model(self, model: SentenceTransformer) -> None:
        """Refuse all but BERT with WordPiece, pooling, and at most a normalisation after it."""
        config, names = transformer_of(model).config, [type(module).__name__ for module in model]
        what = "The model" if config.model_type == "bert" else f"A {config.model_type} model"
        problem = None
        if config.model_type != "bert":
            problem = "is not written as GGUF here; BERT is"
        elif names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            problem = f"consists of {', '.join(names)}; GGUF has room for pooling and normalisation"
        elif not (model[1].include_prompt and model[1].pooling_mode in _POOLING):
            problem = f"pools by {model[1].pooling_mode}; GGUF knows {', '.join(_POOLING)}, with the prompt"
        elif not _is_bert_tokenizer(_settings(model)):
            problem = "has another tokenizer than BERT's WordPiece"
        if problem:
            raise ModelError(f"{what} {problem}.", "Use --to onnx, or llama.cpp's converter on the folder.")

    def write(self, model: SentenceTransformer, folder: Path, texts: Sequence[str]) -> str:  # noqa: ARG002
        """Write ``model.gguf``."""
        import gguf

        network = transformer_of(model)
        config: Any = network.config
        pooling: Any = model[1]
        writer = gguf.GGUFWriter(folder / "model.gguf", "bert")
        writer.add_type("model")
        writer.add_name(self.request.folder.name)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_causal_attention(False)
        writer.add_pooling_type(gguf.PoolingType[_POOLING[pooling.pooling_mode]])
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_tokenizer(writer, model, config)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config.num_hidden_layers)
        for name, tensor in network.state_dict().items():
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known is not None and not name.startswith("pooler."):
                writer.add_tensor(known, tensor.float().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return "fp32"

    def embeddings(self, *_: Any) -> None:
        """Return nothing: llama.cpp is not called from here."""
        return

    def usage(self) -> str:
        """Return the call of llama.cpp's own program."""
        return _USAGE


def _settings(model: SentenceTransformer) -> dict[str, Any]:
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    return {} if backend is None else dict(json.loads(backend.to_str()))


def _is_bert_tokenizer(settings: dict[str, Any]) -> bool:
    kinds = [(settings.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer")]
    return kinds == ["WordPiece", "BertNormalizer", "BertPreTokenizer"] and (
        settings["model"]["continuing_subword_prefix"] == "##"
    )


def _add_tokenizer(writer: Any, model: SentenceTransformer, config: Any) -> None:
    """Add the tokens as llama.cpp has them: the beginning of a word is marked, and its continuation is not."""
    from gguf import TokenType

    tokenizer, settings = model.tokenizer, _settings(model)
    special = {each["content"]: each["special"] for each in settings["added_tokens"]}
    tokens = [f"[PAD{index}]" for index in range(config.vocab_size)]
    types = [TokenType.UNUSED] * config.vocab_size
    for token, index in tokenizer.get_vocab().items():
        if special.get(token):
            tokens[index], types[index] = token, TokenType.CONTROL
        else:
            tokens[index] = token[2:] if token.startswith("##") else f"▁{token}"
            types[index] = TokenType.USER_DEFINED if token in special else TokenType.NORMAL
    writer.add_token_type_count(config.type_vocab_size)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre(_PRE)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for role, attribute in _SPECIAL.items():
        index = getattr(tokenizer, attribute)
        if index is not None:
            getattr(writer, f"add_{role}_token_id")(index)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", bool(settings["normalizer"]["lowercase"]))
