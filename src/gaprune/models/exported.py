"""Models that ``gaprune export`` wrote, run without PyTorch.

An exported folder holds ``onnx/model.onnx`` or ``openvino/openvino_model.xml``, and a ``tokenizer.json`` that pads and
truncates by itself. It opens with the runtime and ``tokenizers`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaprune.errors import ConfigError, ModelError, require_extra, suggest
from gaprune.models.formats import GRAPHS, format_of

__all__ = ["ExportedModel"]

_BATCH_SIZE = 32

_Run = Callable[[Mapping[str, NDArray[np.int64]]], NDArray[np.float32]]


class ExportedModel:
    """A model that `gaprune export` wrote, run by ONNX Runtime or OpenVINO on the CPU.

    Args:
        folder: The exported folder.
        threads: Threads to compute with; default: the runtime chooses.
        exact: Compute in fp32 where OpenVINO would choose bfloat16 on processors that have it.

    Raises:
        ModelError: If the folder holds no exported model, or a damaged one.
        MissingExtraError: If the runtime is not installed.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None, exact: bool = False) -> None:
        from tokenizers import Tokenizer

        folder = Path(folder)
        self.format = format_of(folder)
        if self.format == "torch":
            raise ModelError(
                f"The folder {folder} holds no exported model ({' or '.join(GRAPHS.values())}).",
                "Make one with `gaprune export`, or open the folder with SentenceTransformer.",
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
            truncation = self._tokenizer.truncation
            self.max_length: int | None = None if truncation is None else truncation["max_length"]
            self.prompts: dict[str, str] = config.get("prompts") or {}
            self._default = self.prompts.get(config.get("default_prompt_name") or "", "")
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelError(f"The exported model {folder} cannot be read: {error}", "Export it again.") from error
        start = _onnx if self.format == "onnx" else _openvino
        self._inputs, self._run = start(folder / GRAPHS[self.format], threads, exact)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int = _BATCH_SIZE,
    ) -> NDArray[np.float32]:
        """Return an embedding ``(texts, dimensions)`` of every text.

        Args:
            texts: What to embed.
            prompt: Put before every text; the model's default prompt, which most have not, for ``None``.
            prompt_name: Name of one of the model's prompts instead.
            batch_size: Texts computed at a time.

        Raises:
            ConfigError: If the model has no prompt of this name.
        """
        if prompt_name is not None:
            if prompt_name not in self.prompts:
                raise ConfigError(
                    f"prompt_name: the model has no prompt {prompt_name!r}.{suggest(prompt_name, self.prompts)}",
                    f"It has {', '.join(self.prompts) or 'none'}.",
                )
            prompt = self.prompts[prompt_name]
        before = self._default if prompt is None else prompt
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        made = [self._batch([before + texts[index] for index in batch]) for batch in batches]
        return np.concatenate(made)[np.argsort(order)]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of every text as encoded without a prompt, special tokens included."""
        return [sum(encoding.attention_mask) for encoding in self._tokenizer.encode_batch(list(texts))]

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        encodings = self._tokenizer.encode_batch(texts)
        parts = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        return self._run({name: np.array(parts[name], dtype=np.int64) for name in self._inputs})


def _onnx(graph: Path, threads: int | None, exact: bool) -> tuple[list[str], _Run]:  # noqa: ARG001 (it always is)
    require_extra("Running an ONNX model", "onnx", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Threads that wait by spinning would take the processor from other models measured in turn in this process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the errors of ONNX Runtime have no base of their own
        raise _broken(graph, error) from error
    inputs = [each.name for each in session.get_inputs()]
    return inputs, lambda feed: session.run(["sentence_embedding"], dict(feed))[0]


def _openvino(graph: Path, threads: int | None, exact: bool) -> tuple[list[str], _Run]:
    require_extra("Running an OpenVINO model", "openvino", "openvino")
    import openvino

    config: dict[str, Any] = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    if exact:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        compiled = openvino.Core().compile_model(str(graph), "CPU", config)
    except RuntimeError as error:
        raise _broken(graph, error) from error
    inputs = [each.any_name for each in compiled.inputs]
    return inputs, lambda feed: compiled(dict(feed))["sentence_embedding"].copy()


def _broken(graph: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0]
    return ModelError(f"{graph} cannot be opened: {reason}", "Export the model again.")
