"""The card of an exported model: what it was made from, how well it agrees with that, and how to open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.report.markdown import markdown_table

if TYPE_CHECKING:
    from gaprune.export.records import Export

__all__ = ["export_card"]

_CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- feature-extraction
- gaprune
- {to}
---

# {name} for {runtime}

The model `{name}`, including its pooling, as one graph from tokens to embeddings. It needs no PyTorch: {runtime} runs
the graph, and `tokenizers` pads and truncates the texts as this model requires:

```python
{code}
```

`gaprune.ExportedModel("path/to/this/folder").encode(texts)` does the same in batches, with the model's prompts.
{optimum}
## Agreement with the original

The cosine between the embeddings of a text by this model and by the PyTorch model in fp32, measured at the export:

"""

_CODE = """\
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
{run}"""

_RUN = {
    "onnx": (
        "import onnxruntime",
        """\
session = onnxruntime.InferenceSession(f"{folder}/onnx/model.onnx")
feed = {each.name: np.array(parts[each.name]) for each in session.get_inputs()}
embeddings = session.run(["sentence_embedding"], feed)[0]""",
    ),
    "openvino": (
        "import openvino",
        """\
model = openvino.Core().compile_model(f"{folder}/openvino/openvino_model.xml", "CPU")
feed = {each.any_name: np.array(parts[each.any_name]) for each in model.inputs}
embeddings = model(feed)["sentence_embedding"]""",
    ),
}

_OPTIMUM = {
    "onnx": "",
    "openvino": '`SentenceTransformer("path/to/this/folder", backend="openvino")` opens it too, with optimum-intel.\n',
}

_RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def export_card(record: Export) -> str:
    """Return the text of ``README.md`` for an export."""
    rows = [
        ("weights", "int8, activations quantised at run time" if record.int8 else "fp32"),
        ("texts", f"{record.texts:,}"),
        ("lowest cosine", f"{record.cosine_min:.6f}"),
        ("mean cosine", f"{record.cosine_mean:.6f}"),
    ]
    to = record.to
    imports, run = _RUN[to]
    code = _CODE.format(imports=imports, run=run)
    card = _CARD.format(name=record.source.name, to=to, runtime=_RUNTIMES[to], code=code, optimum=_OPTIMUM[to])
    return card + markdown_table(["", "value"], rows) + "\n`gaprune.json` records everything that made this model.\n"
