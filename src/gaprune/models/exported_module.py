"""An exported model as a SentenceTransformer, so that whatever evaluates those evaluates exports too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule

from gaprune.errors import ConfigError
from gaprune.models.encoders import Encoder, TorchModel
from gaprune.models.exported import ExportedModel
from gaprune.models.formats import format_of
from gaprune.models.load import load_model
from gaprune.models.modes import limit_length


def open_model(name: str | Path, **loading: Any) -> SentenceTransformer:
    """Return a model that encodes, from a folder of any format or the hub; the options are those of ``load_model``.

    An exported model has no parameters: it can neither be trained nor pruned.

    Raises:
        ConfigError: If the model is exported, and another device or type is asked for.
        ModelError: If the model cannot be opened.
        MissingExtraError: If its runtime is not installed.
    """
    if format_of(name) == "torch":
        return load_model(name, **loading)
    for option, reason in (("device", "runs on the CPU"), ("dtype", "keeps the type in which it was exported")):
        if loading.get(option) is not None:
            raise ConfigError(f"{option}: {name} is exported, and {reason}.", f"Leave {option} out.")
    module = _Graph(ExportedModel(name))
    own = module.exported
    model = SentenceTransformer(
        modules=[module], device="cpu", prompts=own.prompts, default_prompt_name=own.default_prompt_name
    )
    limit_length(model, loading.get("max_length"))
    return model


def encoder_of(model: SentenceTransformer) -> Encoder:
    """Return what encodes in a model's own runtime, so that time is measured without what wraps it."""
    module = model[0]
    return module.exported if isinstance(module, _Graph) else TorchModel(model)


class _Graph(InputModule):
    """The graph as the only module of a model."""

    forward_kwargs = {"task"}  # noqa: RUF012 (as sentence-transformers declares it)

    def __init__(self, exported: ExportedModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.exported = exported

    @property
    def max_seq_length(self) -> int | None:
        """Tokens after which a text is truncated."""
        return self.exported.max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int | None) -> None:
        self.exported.max_length = tokens

    def get_embedding_dimension(self) -> int:
        """Return the dimensions of the embeddings."""
        return self.exported.dimensions

    def preprocess(self, inputs: Any, prompt: str | None = None, **_options: Any) -> dict[str, torch.Tensor]:
        """Return the tokens of texts, each ``(texts, tokens)``."""
        tokens = self.exported.tokenize([(prompt or "") + text for text in inputs])
        return {name: torch.from_numpy(value) for name, value in tokens.items()}

    def forward(self, features: dict[str, Any], task: str | None = None, **_options: Any) -> dict[str, Any]:
        """Add the embeddings ``(texts, dimensions)``."""
        found = self.exported.run({name: features[name].numpy() for name in self.exported.inputs}, task)
        return {**features, "sentence_embedding": torch.from_numpy(found)}

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Refuse: the folder that was exported is what can be copied."""
        raise NotImplementedError("copy the exported folder instead")
