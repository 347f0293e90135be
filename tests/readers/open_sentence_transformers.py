"""Runs in an environment with another sentence-transformers: prints the embeddings of every folder, or its error."""

import json
import sys
import warnings

warnings.simplefilter("ignore")

from sentence_transformers import SentenceTransformer  # noqa: E402

found = {}
for folder, (texts, _) in json.load(sys.stdin).items():
    try:
        model = SentenceTransformer(folder, device="cpu")
        prompt = "query" if (getattr(model, "prompts", None) or {}).get("query") else None
        found[folder] = model.encode(texts, prompt_name=prompt).tolist()
    except Exception as error:  # noqa: BLE001
        found[folder] = f"{type(error).__name__}: {error}"
sys.stdout.write("\n" + json.dumps(found))
