"""Runs in an environment with fastembed: prints the embeddings of every folder, or its error."""

import json
import sys
from pathlib import Path

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

found = {}
for folder, (texts, dimensions) in json.load(sys.stdin).items():
    try:
        config = json.loads((Path(folder) / "config_sentence_transformers.json").read_text())
        prompt = (config.get("prompts") or {}).get("query") or ""
        TextEmbedding.add_custom_model(
            model=folder,
            pooling=PoolingType.DISABLED,  # the graph pools and normalises
            normalization=False,
            output_name="sentence_embedding",
            sources=ModelSource(hf="none/none"),
            dim=dimensions,
            model_file="onnx/model.onnx",
        )
        model = TextEmbedding(folder, specific_model_path=folder)
        found[folder] = [each.tolist() for each in model.embed([prompt + text for text in texts], batch_size=4)]
    except Exception as error:  # noqa: BLE001
        found[folder] = f"{type(error).__name__}: {error}"
sys.stdout.write("\n" + json.dumps(found))
