"""Shared by the benchmarks: the test bed beside the repository, the genuine model, and results kept line by line."""

from __future__ import annotations

import copy
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from gaprune.export.provenance import versions

ROOT = Path(__file__).resolve().parents[1]
TESTBED = ROOT.parent / "shared" / "testbed"
RESULTS = ROOT / "benchmarks" / "results"
DOMAINS = ("finance", "chemistry")


def testbed() -> Path:
    """Return the folder of the test bed, or end with the reason."""
    if not TESTBED.is_dir():
        raise SystemExit(f"The test bed is not at {TESTBED}; this benchmark needs it.")
    return TESTBED


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "encoding": str(encoding_type()).removeprefix("torch."),
        "versions": versions(),
    }


def encoding_type() -> torch.dtype:
    """Return what models are evaluated in: bfloat16 where the processor computes with it, which is faster there."""
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


def for_encoding(model: SentenceTransformer) -> SentenceTransformer:
    """Return a copy to be evaluated, the dense model like any other."""
    return copy.deepcopy(model).to(encoding_type())


def put_table(name: str, text: str, *, page: str = "benchmarks.md") -> None:
    """Put a table into a page of docs, between the markers of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    path = ROOT / "docs" / page
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


class Lines:
    """A JSONL file of finished cells: a killed benchmark goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            with self.path.open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)

    def add(self, cell: dict[str, Any]) -> None:
        """Append a finished cell."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(cell) + "\n")
