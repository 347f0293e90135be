"""What the formats have in common that turn the whole model into one graph from tokens to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gaprune.errors import ModelError, require_extra
from gaprune.export.formats.base import ExportFormat
from gaprune.export.model_files import write_model
from gaprune.models.encode import encode
from gaprune.models.exported import ExportedModel
from gaprune.models.prompts import Role

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_BATCH_SIZE = 8

_UNLIMITED = 1 << 31
"""transformers writes a limit beyond this if there is none."""

_USAGE = """\
The model, including its pooling, is one graph from tokens to embeddings. It needs no PyTorch: {runtime} runs the
graph, and `tokenizers` pads and truncates the texts as this model requires:

```python
import numpy as np
{imports}
from tokenizers import Tokenizer

folder = "path/to/this/folder"
texts = ["a text", "another text"]
tokens = Tokenizer.from_file(f"{{folder}}/tokenizer.json").encode_batch(texts)
parts = {{
    "input_ids": [each.ids for each in tokens],
    "attention_mask": [each.attention_mask for each in tokens],
    "token_type_ids": [each.type_ids for each in tokens],
}}
{run}
```

`gaprune.ExportedModel("path/to/this/folder").encode(texts)` does the same in batches, with the model's prompts.
"""


class GraphFormat(ExportFormat):
    """A graph from tokens to embeddings beside a ``tokenizer.json`` that pads and truncates by itself."""

    modules: ClassVar[tuple[str, ...]]
    """What must be installed; the extra has the name of the format."""
    imports: ClassVar[str]
    """Code that imports the runtime, for the card."""
    run: ClassVar[str]
    """Code that runs the graph, for the card."""
    has_int8: ClassVar[bool] = True

    def check(self) -> None:
        """Check options and installed packages, before the model is loaded."""
        super().check()
        require_extra(f"Exporting to {self.name}", self.name, *self.modules)

    def check_model(self, model: SentenceTransformer) -> None:
        """Refuse models that a graph and a tokenizer file cannot express."""
        if getattr(model.tokenizer, "backend_tokenizer", None) is None:
            raise ModelError(
                f"The model's tokenizer ({type(model.tokenizer).__name__}) is not one of the tokenizers library.",
                "Only models with a tokenizer.json can be exported.",
            )
        if not all(getattr(module, "include_prompt", True) for module in model):
            raise ModelError(
                "The model excludes the tokens of its prompt from pooling, which a graph cannot express.",
                "Use the PyTorch model.",
            )
        modules: list[Any] = list(model)
        routed = [
            (place, module.sub_modules) for place, module in enumerate(modules) if hasattr(module, "sub_modules")
        ]
        if any(place == 0 or not {"query", "document"} <= set(routes.keys()) for place, routes in routed):
            raise ModelError(
                "The model has a Router with a tower for each kind of input, or with other routes than query and "
                "document, which one graph and one tokenizer cannot express.",
                "Save each tower as a model of its own, and export those; or use the PyTorch model.",
            )

    def write_tokenizer(self, model: SentenceTransformer, folder: Path) -> None:
        """Write all but the weights of the transformer, with a tokenizer that pads and truncates by itself."""
        from tokenizers import Tokenizer

        write_model(model, folder)
        for file in (*folder.glob("model*.safetensors"), *folder.glob("model*.safetensors.index.json")):
            file.unlink()
        path = folder / "tokenizer.json"
        tokenizer, own = Tokenizer.from_file(str(path)), model.tokenizer
        if model.max_seq_length is None or model.max_seq_length > _UNLIMITED:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(model.max_seq_length, direction=own.truncation_side)
        tokenizer.enable_padding(
            direction=own.padding_side,
            pad_id=own.pad_token_id,
            pad_type_id=own.pad_token_type_id,
            pad_token=own.pad_token,
        )
        tokenizer.save(str(path))

    def embeddings(
        self, model: SentenceTransformer, folder: Path, texts: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the embeddings by the export and by the model."""
        return self.by_export(model, folder, texts, exact=True), self.by_model(model, texts)

    @staticmethod
    def by_export(
        model: SentenceTransformer, folder: Path, texts: Sequence[str], *, exact: bool = False
    ) -> NDArray[np.float32]:
        """Return the embeddings by the export, of every route of the model."""
        from gaprune.export.graph import routes_of

        opened = ExportedModel(folder, exact=exact)
        options: dict[str, Any] = {"prompt": "", "batch_size": _BATCH_SIZE}
        return np.concatenate([opened.encode(texts, task=task, **options) for task in routes_of(model)])

    @staticmethod
    def by_model(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings by the model, of every route."""
        from gaprune.export.graph import routes_of

        roles: dict[str | None, Role] = {"query": "query", "document": "passage"}
        return np.concatenate(
            [encode(model, texts, roles.get(task), "", batch_size=_BATCH_SIZE) for task in routes_of(model)]
        )

    def usage(self) -> str:
        """Return code that needs the runtime and ``tokenizers`` alone."""
        return _USAGE.format(runtime=self.runtime, imports=self.imports, run=self.run)
