"""Opening a model folder in the runtime that it is made for: PyTorch, ONNX Runtime or OpenVINO.

A folder that `gaprune export` wrote holds ``onnx/model.onnx`` or ``openvino/openvino_model.xml``, and a
``tokenizer.json`` that pads and cuts by itself. It opens here with the runtime and ``tokenizers`` alone, without
PyTorch. The places are those of sentence-transformers' backends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gaprune.errors import ConfigError, MissingExtraError, ModelError, suggest
from gaprune.models.encode import encode
from gaprune.models.load import load_model, padded_inputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["GRAPHS", "Encoder", "ExportedModel", "Format", "TorchModel", "format_of", "open_encoder"]

Format = Literal["torch", "onnx", "openvino"]

GRAPHS: Mapping[Format, str] = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}
"""Where an exported folder keeps its graph; the same places as in sentence-transformers."""

_BATCH_SIZE = 32

_Run = Callable[[Mapping[str, NDArray[np.int64]]], NDArray[np.float32]]


class Encoder(Protocol):
    """What every runtime can be asked."""

    format: Format
    max_length: int | None

    def encode(
        self, texts: Sequence[str], *, prompt: str | None = None, batch_size: int = _BATCH_SIZE
    ) -> NDArray[np.float32]:
        """Return an embedding ``(texts, dimensions)`` of every text."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of every text as encoded without a prompt, special tokens included."""


def format_of(folder: str | Path) -> Format:
    """Return which runtime the model in ``folder`` is for."""
    return next((name for name, graph in GRAPHS.items() if (Path(folder) / graph).is_file()), "torch")


def open_encoder(
    folder: str | Path, *, threads: int | None = None, device: str | None = None, trust_remote_code: bool = False
) -> Encoder:
    """Open a model folder in its runtime.

    Args:
        folder: A sentence-transformers folder, or one that was exported.
        threads: How many an exported model computes with; PyTorch has one number for the whole process.
        device: Torch device; exported models run on the CPU.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelError: If the model cannot be opened.
        MissingExtraError: If its runtime is not installed.
    """
    if format_of(folder) == "torch":
        return TorchModel(load_model(folder, device=device, trust_remote_code=trust_remote_code))
    return ExportedModel(folder, threads=threads)


class TorchModel:
    """A sentence-transformers model as an encoder."""

    format: Format = "torch"

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.max_length = model.max_seq_length

    def encode(
        self, texts: Sequence[str], *, prompt: str | None = None, batch_size: int = _BATCH_SIZE
    ) -> NDArray[np.float32]:
        """Return an embedding ``(texts, dimensions)`` of every text; the model's default prompt for ``None``."""
        return encode(self.model, texts, None, prompt, batch_size=batch_size)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of every text as encoded without a prompt, special tokens included."""
        with padded_inputs(self.model):
            mask = self.model.preprocess(list(texts))["attention_mask"]
        return [int(count) for count in mask.sum(dim=1)]


class ExportedModel:
    """A model that `gaprune export` wrote, run by ONNX Runtime or OpenVINO on the CPU.

    Args:
        folder: What was written.
        threads: Threads to compute with; the runtime chooses where none are given.
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
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("Running an ONNX model", "onnx") from error
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
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("Running an OpenVINO model", "openvino") from error
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
