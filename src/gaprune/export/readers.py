"""Programs that an export can be made for by name: the format and file that each opens, and what it cannot run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.errors import ConfigError, ModelError, suggest
from gaprune.models.blocks import transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Reader:
    """A program that runs an export.

    Args:
        title: Its name for people.
        usage: How to start it with the folder, in Markdown; ``{graph}`` stands for the file of the graph,
            ``{dtype}`` for its name in transformers.js, and ``{dimensions}`` for the length of an embedding.
        one_name: Whether it opens ``onnx/model.onnx`` alone, so that int8 takes this name too.
        poolings: Poolings that it accepts; ``None`` if it leaves pooling to the graph without a look at it.
        needs_limit: Whether it refuses a model without a limit on the tokens of a text.
        needs_positions: Whether it refuses a family that has no ``max_position_embeddings``.
        one_file: Whether it cannot find weights that lie beside the graph.
        to: The format.
    """

    title: str
    usage: str
    one_name: bool = False
    poolings: tuple[str, ...] | None = None
    needs_limit: bool = False
    needs_positions: bool = False
    one_file: bool = False
    to: str = "onnx"

    def check(self, model: SentenceTransformer) -> None:
        """Refuse a model that the program cannot run.

        Raises:
            ModelError: Naming the reason.
        """
        for problem in self._problems(model):
            raise ModelError(
                f"{self.title} cannot run this model: {problem}.", f"Use --to {self.to}, or another --for."
            )

    def usage_of(self, graph: str, model: SentenceTransformer) -> str:
        """Return how to start the program with an export of ``model``, in Markdown."""
        dtype = "q8" if graph.endswith("_quantized.onnx") else "fp32"
        return self.usage.format(graph=graph, dimensions=model.get_embedding_dimension(), dtype=dtype)

    def _problems(self, model: SentenceTransformer) -> Iterator[str]:
        names = [type(module).__name__ for module in model]
        if "Router" in names:
            yield "it has a route for queries and one for documents, and there is one output for both"
        if self.poolings is not None:
            if names[1:2] != ["Pooling"]:
                yield f"its modules are {', '.join(names)}; pooling must come second"
            elif model[1].pooling_mode not in self.poolings:
                yield f"it pools by {model[1].pooling_mode}; known are {', '.join(self.poolings)}"
        if self.needs_limit and model.max_seq_length is None:
            yield "it has no limit on the tokens of a text (max_seq_length)"
        config = transformer_of(model).config
        if self.needs_positions and not isinstance(getattr(config, "max_position_embeddings", None), int):
            yield f"the family {config.model_type} has no max_position_embeddings"
        if self.one_file:
            from gaprune.export.graph import is_large

            if is_large(model):
                yield "its weights take more than 1 GiB in fp32, so they lie in a file beside the graph"


READERS = {
    "tei": Reader(
        "text-embeddings-inference",
        """\
`text-embeddings-inference` (1.8.3 or later, the image for processors) serves this folder at `/embed`:

```sh
docker run -p 8080:80 -v "$PWD/path/to/this/folder:/model" \\
    ghcr.io/huggingface/text-embeddings-inference:cpu-1.9 --model-id /model
curl localhost:8080/embed -H "Content-Type: application/json" -d '{{"inputs": ["a text"]}}'
```

It makes embeddings of length one unless the request says `"normalize": false`, and adds the prompt that the request
names (`"prompt_name"`).
""",
        one_name=True,
        poolings=("cls", "mean", "lasttoken"),
        needs_limit=True,
        needs_positions=True,
    ),
    "fastembed": Reader(
        "fastembed",
        """\
fastembed opens this folder as a model of your own; the graph pools and normalises. It adds no prompts.

```python
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

folder = "path/to/this/folder"
TextEmbedding.add_custom_model(
    model="mine",
    pooling=PoolingType.DISABLED,
    normalization=False,
    output_name="sentence_embedding",
    sources=ModelSource(hf="none/none"),
    dim={dimensions},
    model_file="{graph}",
)
embeddings = list(TextEmbedding("mine", specific_model_path=folder).embed(["a text", "another text"]))
```
""",
        needs_limit=True,
    ),
    "transformers.js": Reader(
        "transformers.js",
        """\
transformers.js opens this folder in Node and in browsers. It adds no prompts.

```js
import {{ AutoModel, AutoTokenizer }} from "@huggingface/transformers";

const folder = "path/to/this/folder";
const tokenizer = await AutoTokenizer.from_pretrained(folder);
const model = await AutoModel.from_pretrained(folder, {{ dtype: "{dtype}" }});
const tokens = await tokenizer(["a text", "another text"], {{ padding: true, truncation: true }});
const embeddings = (await model(tokens)).sentence_embedding.tolist();
```
""",
        one_file=True,
    ),
}
"""Readers by the value of ``--for``."""


def reader_named(name: str, to: str | None) -> Reader:
    """Return the reader of this name.

    Raises:
        ConfigError: If there is none, or it opens another format than ``to``.
    """
    if name not in READERS:
        raise ConfigError(f"for: {name!r} is not a reader.{suggest(name, READERS)}", f"Use {', '.join(READERS)}.")
    reader = READERS[name]
    if to not in (None, reader.to):
        raise ConfigError(f"for: {reader.title} opens {reader.to}, not {to}.", "Leave --to out.")
    return reader
