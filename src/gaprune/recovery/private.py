"""Names of other libraries that are not public, each behind one function of ours.

Seen in transformers 5.23 (``Trainer._save_checkpoint``, ``Trainer._load_from_checkpoint``), sentence-transformers 6.2
(which overrides the latter) and peft 0.21 (``LoraConfig._register_custom_module``). The tests of recovery fail if one
of them changes. This module imports sentence-transformers: import it only to train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformerTrainer
from torch import nn

__all__ = ["CheckpointTrainer", "use_lora_layer"]


class CheckpointTrainer(SentenceTransformerTrainer):
    """A trainer whose checkpoints hold what a subclass says."""

    def write_checkpoint(self) -> None:
        """Write a checkpoint: weights, the state of training and, if the run can be resumed, of the optimiser."""
        super()._save_checkpoint(self.model, None)

    def read_weights(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint into the model."""
        raise NotImplementedError

    def _save_checkpoint(self, *_: Any, **__: Any) -> None:
        self.write_checkpoint()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any) -> None:
        self.read_weights(Path(resume_from_checkpoint))


def use_lora_layer(config: Any, layer: type[nn.Module]) -> None:
    """Let peft put ``layer`` in place of linear layers for the adapters of ``config``."""
    config._register_custom_module({nn.Linear: layer})  # noqa: SLF001
