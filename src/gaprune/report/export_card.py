"""The card of an exported model: what it was made from, how near it is to that, and how to open it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaprune.report.markdown import markdown_table

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

The model `{name}`, pooling and all, as one graph from tokens to embeddings. It opens without PyTorch, by
{runtime} and `tokenizers`, which pads and cuts as this model wants it:

```python
{code}
```

`gaprune.ExportedModel("path/to/this/folder").encode(texts)` does this too, in batches and with the model's prompts.
{optimum}
## How near it is

The cosine of each text's embedding to that of the PyTorch model in fp32, measured when it was written:

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
    "openvino": 'So does `SentenceTransformer("path/to/this/folder", backend="openvino")` with optimum-intel.\n',
}

_RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def export_card(name: str, record: Mapping[str, Any]) -> str:
    """Return the text of ``README.md`` for what ``gaprune.json`` says under ``export``."""
    rows = [
        ("weights", "int8, activations quantised as they come" if record["int8"] else "fp32"),
        ("texts", f"{record['texts']:,}"),
        ("lowest cosine", f"{record['cosine_min']:.6f}"),
        ("mean cosine", f"{record['cosine_mean']:.6f}"),
    ]
    imports, run = _RUN[record["to"]]
    code = _CODE.format(imports=imports, run=run)
    to = record["to"]
    card = _CARD.format(name=name, to=to, runtime=_RUNTIMES[to], code=code, optimum=_OPTIMUM[to])
    return card + markdown_table(["", "value"], rows) + "\nEverything that made this model is in `gaprune.json`.\n"
