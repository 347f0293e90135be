"""Models that ``gaprune export`` wrote, run without PyTorch.

An exported folder holds ``onnx/model.onnx`` (in int8 ``onnx/model_quantized.onnx``) or
``openvino/openvino_model.xml``, and a ``tokenizer.json`` that pads and truncates by itself. It opens with the runtime
and ``tokenizers`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from gaprune.errors import ConfigError, ModelError, require_extra, suggest
from gaprune.models.formats import GRAPHS, check_runnable, format_of, graph_of
from gaprune.models.prompts import PASSAGE_PROMPT_NAMES
from gaprune.util.progress import track

if TYPE_CHECKING:
    from torch import Tensor

_BATCH_SIZE = 32

_Run = Callable[[Mapping[str, NDArray[np.int64]], str], NDArray[np.float32]]
"""From the inputs of the graph, and the name of an output, to that output."""

_EMBEDDING, _OF_DOCUMENTS = "sentence_embedding", "document_embedding"


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
        check_runnable(folder)
        self.format, graph = format_of(folder), graph_of(folder)
        if graph is None:
            places = " or ".join(GRAPHS[each][0] for each in ("onnx", "openvino"))
            raise ModelError(
                f"The folder {folder} holds no exported model ({places}).",
                "Make one with `gaprune export`, or open the folder with SentenceTransformer.",
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
            prompts = {"query": "", "document": "", **(config.get("prompts") or {})}
            self.prompts: dict[str, str] = {name: prompt or "" for name, prompt in prompts.items()}
            self.default_prompt_name: str | None = config.get("default_prompt_name")
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelError(f"The exported model {folder} cannot be read: {error}", "Export it again.") from error
        start = _onnx if self.format == "onnx" else _openvino
        self.inputs, self._outputs, self._run = start(folder / graph, threads, exact)

    @property
    def max_length(self) -> int | None:
        """Tokens after which a text is truncated, special tokens included; ``None`` for no limit. Can be set."""
        truncation = self._tokenizer.truncation
        return None if truncation is None else int(truncation["max_length"])

    @max_length.setter
    def max_length(self, tokens: int | None) -> None:
        known = self._tokenizer.truncation or {}
        if tokens is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(tokens, direction=known.get("direction", "right"))

    @cached_property
    def dimensions(self) -> int:
        """Dimensions of the embeddings, found by embedding a text: int8 graphs do not declare them."""
        return int(self.run(self.tokenize(["a"])).shape[-1])

    @overload
    def encode(
        self, inputs: str | Sequence[str], prompt_name: str | None = ..., prompt: str | None = ...,
        batch_size: int = ..., *, show_progress_bar: bool | None = ..., convert_to_numpy: bool = ...,
        convert_to_tensor: Literal[False] = ..., normalize_embeddings: bool = ..., truncate_dim: int | None = ...,
        task: str | None = ...,
    ) -> NDArray[np.float32]: ...  # fmt: skip
    @overload
    def encode(
        self, inputs: str | Sequence[str], prompt_name: str | None = ..., prompt: str | None = ...,
        batch_size: int = ..., *, show_progress_bar: bool | None = ..., convert_to_numpy: bool = ...,
        convert_to_tensor: Literal[True], normalize_embeddings: bool = ..., truncate_dim: int | None = ...,
        task: str | None = ...,
    ) -> Tensor: ...  # fmt: skip
    def encode(
        self,
        inputs: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = _BATCH_SIZE,
        *,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        task: str | None = None,
    ) -> NDArray[np.float32] | Tensor | list[Tensor]:
        """Return an embedding ``(texts, dimensions)`` of every text, as ``SentenceTransformer.encode`` does.

        Args:
            inputs: Texts; for a single string the result is its one embedding ``(dimensions,)``.
            prompt_name: Name of one of the model's prompts, which is put before every text.
            prompt: Text put before every text instead; the model's default prompt, which most have not, for ``None``.
            batch_size: Texts computed at a time.
            show_progress_bar: Whether to show the progress.
            convert_to_numpy: Return an array; if false, a list of tensors.
            convert_to_tensor: Return one tensor instead of an array. Tensors need PyTorch.
            normalize_embeddings: Scale every embedding to length one.
            truncate_dim: Keep this many dimensions, before the scaling.
            task: ``query`` or ``document``, for a model with a route for each (Router); the route of queries for
                ``None``.

        Raises:
            ConfigError: If something else than texts is given, the model has no prompt of this name, or a number is
                below 1.
        """
        single = isinstance(inputs, str)
        if isinstance(inputs, Mapping | AbstractSet) or not np.iterable(inputs):
            raise ConfigError(
                f"inputs: {inputs!r:.60} is of type {type(inputs).__name__}.",
                "Give a string, or a sequence of strings.",
            )
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        _check(texts, batch_size=batch_size, truncate_dim=truncate_dim)
        found = self._embed(texts, self._prompt(prompt_name, prompt), batch_size, task, shown=bool(show_progress_bar))
        found = found[..., :truncate_dim]
        if normalize_embeddings and texts:
            found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        if convert_to_numpy and not convert_to_tensor:
            return found[0] if single else found
        from torch import from_numpy

        tensor = from_numpy(found)[0] if single else from_numpy(found)
        return tensor if convert_to_tensor or single else list(tensor)

    def encode_query(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """Return embeddings of queries: :meth:`encode` with the model's prompt for them unless another is given."""
        return self._encode_as("query", ("query",), inputs, options)

    def encode_document(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """Return embeddings of passages: :meth:`encode` with the model's prompt for them unless another is given."""
        return self._encode_as("document", PASSAGE_PROMPT_NAMES, inputs, options)

    def _encode_as(self, task: str, names: Sequence[str], inputs: str | Sequence[str], options: dict[str, Any]) -> Any:
        given = {name: value for name, value in options.items() if value is not None}
        if not given.keys() & {"prompt", "prompt_name"}:
            given["prompt_name"] = next((name for name in names if name in self.prompts), None)
        return self.encode(inputs, task=task, **given)

    def _prompt(self, name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        if name is not None and name not in self.prompts:
            raise ConfigError(
                f"prompt_name: the model has no prompt {name!r}.{suggest(name, self.prompts)}",
                f"It has {', '.join(self.prompts)}.",
            )
        return self.prompts.get(name or self.default_prompt_name or "", "")

    def _embed(
        self, texts: Sequence[str], prompt: str, batch_size: int, task: str | None, *, shown: bool
    ) -> NDArray[np.float32]:
        if not texts:
            return np.zeros(0, dtype=np.float32)  # as sentence-transformers, which cannot know the dimensions then
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        made = [
            self.run(self.tokenize([prompt + texts[index] for index in batch]), task)
            for batch in (track(batches, "Encoding") if shown else batches)
        ]
        return np.concatenate(made)[np.argsort(order)]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of every text as encoded without a prompt, special tokens included."""
        return [sum(encoding.attention_mask) for encoding in self._tokenizer.encode_batch(list(texts))]

    def run(self, tokens: Mapping[str, NDArray[np.int64]], task: str | None = None) -> NDArray[np.float32]:
        """Return embeddings ``(texts, dimensions)`` of what :meth:`tokenize` returns."""
        is_routed = task == "document" and _OF_DOCUMENTS in self._outputs
        return self._run(tokens, _OF_DOCUMENTS if is_routed else _EMBEDDING)

    def tokenize(self, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Return the inputs of the graph, each ``(texts, tokens)``, for texts with their prompts."""
        encodings = self._tokenizer.encode_batch(list(texts))
        parts = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        return {name: np.array(parts[name], dtype=np.int64) for name in self.inputs}


def _check(texts: Sequence[object], *, batch_size: int, truncate_dim: int | None) -> None:
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(
                f"inputs: item {place} is {text!r:.60}, of type {type(text).__name__}.",
                "Give a string, or a sequence of strings.",
            )
    for name, number in (("batch_size", batch_size), ("truncate_dim", truncate_dim)):
        if number is not None and number < 1:
            raise ConfigError(f"{name}: {number} is below 1.", "Give a positive number.")


def _onnx(graph: Path, threads: int | None, exact: bool) -> tuple[list[str], list[str], _Run]:  # noqa: ARG001 (it always is)
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
    names = [[each.name for each in sides] for sides in (session.get_inputs(), session.get_outputs())]
    return names[0], names[1], lambda feed, output: session.run([output], dict(feed))[0]


def _openvino(graph: Path, threads: int | None, exact: bool) -> tuple[list[str], list[str], _Run]:
    require_extra("Running an OpenVINO model", "openvino", "openvino")
    import openvino

    config: dict[str, Any] = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    if exact:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        compiled = openvino.Core().compile_model(str(graph), "CPU", config)
    except RuntimeError as error:
        raise _broken(graph, error) from error
    names = [[each.any_name for each in sides] for sides in (compiled.inputs, compiled.outputs)]
    return names[0], names[1], lambda feed, output: compiled(dict(feed))[output].copy()


def _broken(graph: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0]
    return ModelError(f"{graph} cannot be opened: {reason}", "Export the model again.")
