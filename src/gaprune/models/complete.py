"""Models whose files lack weights or tokens: they load all the same, with random weights or without a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaprune.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_COMPLETE = "Give a complete folder of the model; if it was copied or downloaded, do so again."


def check_complete(model: SentenceTransformer, name: str | Path) -> None:
    """Refuse a loaded model with weights drawn at random that its embeddings depend on, or a tokenizer without tokens.

    transformers marks what it read from the checkpoint. A pooler that nothing reads may be missing.

    Raises:
        ModelError: If weights or tokens are missing.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gaprune.models.fingerprints import reached

    tokenizer = model.tokenizer
    if isinstance(tokenizer, PreTrainedTokenizerBase) and len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise ModelError(f"The model {name} has a tokenizer without a vocabulary: its files are missing.", _COMPLETE)
    drawn = {
        weight: inside
        for module in model.modules()
        if isinstance(module, PreTrainedModel)
        for inside, weight in module.named_parameters()
        if not getattr(weight, "_is_hf_initialized", False)
    }
    needed = reached(model) if drawn else set()
    missing = [inside for weight, inside in drawn.items() if weight in needed]
    if missing:
        raise ModelError(
            f"The model {name} lacks {len(missing):,} weights that its embeddings depend on, such as {missing[0]}; "
            "they would be drawn at random.",
            f"{_COMPLETE} Their names must be those of the architecture in config.json.",
        )
