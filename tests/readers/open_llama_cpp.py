"""Runs in an environment with xllamacpp, llama.cpp's server: prints the embeddings of every file, or its error."""

import json
import os
import sys
from pathlib import Path

import xllamacpp

found = {}
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # llama.cpp writes to stdout
for folder, (texts, _) in json.load(sys.stdin).items():
    try:
        config = json.loads((Path(folder) / "config_sentence_transformers.json").read_text())
        prompt = (config.get("prompts") or {}).get("query") or ""
        params = xllamacpp.CommonParams()
        params.model.path = f"{folder}/model.gguf"
        params.embedding = True
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = 2048, 2048, 2048, 1
        params.cpuparams.n_threads = 1
        server = xllamacpp.Server(params)
        answer = server.handle_embeddings({"input": [prompt + text for text in texts]})
        found[folder] = [each["embedding"] for each in answer["data"]]
    except Exception as error:  # noqa: BLE001
        found[folder] = f"{type(error).__name__}: {error}"
answers.write("\n" + json.dumps(found))
answers.close()
