"""A hundred malformed inputs and the error of each; ``python benchmarks/malformed.py`` writes ``docs/malformed.md``.

Every command runs in a folder that holds the input and nothing else. It must end with exit code 2 and one error,
without a traceback, and write nothing.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from gaprune.cli.app import main

__all__ = ["CASES", "Case", "Outcome", "row", "run"]

TABLE = Path(__file__).resolve().parent.parent / "docs" / "malformed.md"

_GOOD = '{"query": "q", "positive": "p", "negative": "n"}\n'


@dataclass(frozen=True)
class Case:
    """A malformed input: what is wrong, the files, and the command that reads them."""

    wrong: str
    command: str
    files: Mapping[str, bytes | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, its error and way out, and what it wrote."""

    code: object
    problem: str
    remedy: str
    written: list[str]


def _triplets(wrong: str, content: bytes | str, name: str = "a.jsonl", options: str = "") -> Case:
    return Case(wrong, f"data check {name}{options}", {name: content})


def _recipe(wrong: str, content: bytes | str) -> Case:
    return Case(wrong, "prune --recipe r.yaml --out o", {"r.yaml": content})


def _flags(wrong: str, options: str) -> Case:
    return Case(wrong, f"prune model --domain a.jsonl {options} --out o", {"a.jsonl": _GOOD})


def _provenance(wrong: str, content: bytes | str) -> Case:
    command = "recover child --domain a.jsonl --steps 1 --distil --out o"
    return Case(wrong, command, {"a.jsonl": _GOOD, "child/gaprune.json": content})


def _task(wrong: str, **files: bytes | str) -> Case:
    whole: dict[str, bytes | str] = {
        "corpus.jsonl": '{"_id": "d", "text": "t"}\n',
        "queries.jsonl": '{"_id": "q", "text": "t"}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n",
    }
    for name, content in files.items():
        whole["qrels/test.tsv" if name == "qrels" else f"{name}.jsonl"] = content
    return Case(wrong, "evaluate model --tasks t", {f"t/{name}": content for name, content in whole.items()})


def _file_task(wrong: str, content: bytes | str) -> Case:
    return Case(wrong, "evaluate model --tasks t", {"t/a.jsonl": content})


def _record(wrong: str, **fields: object) -> Case:
    return _triplets(wrong, _GOOD + json.dumps({"query": "q", "positive": "p"} | fields) + "\n")


CASES = (
    Case("The file does not exist", "data check missing.jsonl"),
    Case("The folder does not exist", "data check missing/a.jsonl"),
    Case("A near name exists", "data check finance.json", {"finance.jsonl": _GOOD}),
    Case("The folder is empty", "data check d", {"d/.keep": ""}),
    Case("The files are one folder further down", "data check d", {"d/en/a.jsonl": _GOOD}),
    _triplets("The file is empty", ""),
    _triplets("Blank lines alone", "\n \n"),
    _triplets("A header alone", "query,positive\n", "a.csv"),
    _triplets("A spreadsheet", b"PK\x03\x04", "a.xlsx"),
    _triplets("No ending", _GOOD, "a"),
    _triplets("A line is cut off", _GOOD + '{"query": "q", "pos'),
    _triplets("Single quotes", "{'query': 'q', 'positive': 'p'}\n"),
    _triplets("Two objects on a line", _GOOD.strip() + _GOOD),
    _triplets("A key twice", '{"query": "a", "query": "b", "positive": "p"}\n'),
    _triplets("A number in place of an object", "3\n"),
    _triplets("null in place of an object", "null\n"),
    _triplets("A list of one text", '["q"]\n'),
    _triplets("A list with a number", '["q", 2]\n'),
    _triplets("Nested a hundred thousand times", "[" * 100_000),
    _triplets("A number of ten thousand digits", '{"query": ' + "9" * 10_000 + ', "positive": "p"}\n'),
    _triplets("Latin-1", _GOOD.encode() + '{"query": "café", "positive": "p"}\n'.encode("latin-1")),
    _triplets("UTF-16 without a byte order mark", _GOOD.encode("utf-16-le")),
    _triplets("Half a character of UTF-16", b"\xff\xfe" + _GOOD.encode("utf-16-le")[:-1]),
    _triplets("Half of a surrogate pair", '{"query": "\\ud83d", "positive": "p"}\n'),
    _triplets("Not compressed, though its name says so", _GOOD, "a.jsonl.gz"),
    _triplets("Compressed and cut off", gzip.compress(_GOOD.encode() * 99, mtime=0)[:-9], "a.jsonl.gz"),
    _triplets("Not Parquet, though its name says so", _GOOD, "a.parquet"),
    _record("The query is null", query=None),
    _record("The query is space", query=" \n"),
    _record("The query is a number", query=7),
    _record("The query is a list", query=["a", "b"]),
    _record("The query is not a number (NaN)", query=float("nan")),
    _record("The positive is empty", positive=""),
    _record("The list of positives is empty", positive=[]),
    _record("A negative is a number", negative=1.5),
    _record("A negative in a list is null", negatives=["n", None]),
    _record("The negatives are an object", negatives={"n": 1}),
    _record("Two columns may be the negatives", neg="n", negatives=["m"]),
    _triplets("The query column is misspelt", '{"qery": "q", "positive": "p"}\n'),
    _triplets("No column of positives", '{"query": "q", "text": "p"}\n'),
    _triplets("Pairs with a score", '{"sentence1": "a", "sentence2": "b", "score": 0.3}\n'),
    _triplets("A set of one text", '{"set": ["a"]}\n'),
    _triplets("The positive is among its negatives", '{"query": "q", "positive": "p", "negative": "P."}\n'),
    _triplets("A mapped column is missing", '{"text": "q", "positive": "p"}\n', options=" --set columns.query=txt"),
    _triplets("A column is mapped to an unknown part", _GOOD, options=" --set columns.qery=query"),
    _triplets("A mapping without =", _GOOD, options=" --set columns.query"),
    _triplets("A part is mapped twice", _GOOD, options=" --set columns.query=a --set columns.query=b"),
    _triplets("A split of a file", _GOOD, options=" --set split=test"),
    _triplets("A row is too short", "query,positive\na\n", "a.csv"),
    _triplets("A comma outside quotes", "query,positive\na,b,c\n", "a.csv"),
    _triplets("A quote is left open", 'query,positive\n"a,b\n', "a.csv"),
    _triplets("A quote inside a cell", 'query,positive\n"a"b",c\n', "a.csv"),
    _triplets("An empty cell", "query,positive\n,b\n", "a.csv"),
    _triplets("No row of names", "what is a bond\ta loan\tan agent\nq\tp\tn\n", "a.tsv"),
    _triplets("A list as numpy prints it", "query,pos\nq,['a' 'b']\n", "a.csv"),
    _triplets("An object without a list", '{"query": {"0": "q"}}', "a.json"),
    _triplets("An object with two lists", '{"train": [], "test": []}', "a.json"),
    _triplets("A text as JSON", '"q"', "a.json"),
    _triplets("A comma is missing", '[{"query": "q" "positive": "p"}]', "a.json"),
    _triplets("A record is a number", f"[{_GOOD}, 4]", "a.json"),
    Case("BEIR without training judgements", "data check t", {
        "t/corpus.jsonl": '{"_id": "d", "text": "t"}\n', "t/queries.jsonl": '{"_id": "q", "text": "t"}\n',
        "t/qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n"}),
    Case("MS MARCO's collection with three columns", "data check t", {
        "t/collection.tsv": "1\ta\tb\n", "t/queries.train.tsv": "1\tq\n", "t/qrels.train.tsv": "1\t0\t1\t1\n"}),
    _task("A document without an id", corpus='{"text": "t"}\n'),
    _task("An id twice", corpus='{"_id": "d", "text": "t"}\n' * 2),
    _task("A document that is a number", corpus='{"_id": "d", "text": 3}\n'),
    _task("The corpus is empty", corpus=""),
    _task("A query without a text", queries='{"_id": "q"}\n'),
    _task("Judgements without a header", qrels="q\td\t1\n"),
    _task("Judgements with commas", qrels="query-id,corpus-id,score\nq,d,1\n"),
    _task("A grade that is not a number", qrels="query-id\tcorpus-id\tscore\nq\td\tyes\n"),
    _task("A judged document is missing", qrels="query-id\tcorpus-id\tscore\nq\te\t1\n"),
    _task("Only grades of zero", qrels="query-id\tcorpus-id\tscore\nq\td\t0\n"),
    _file_task("A task of unknown columns", '{"a": 1}\n'),
    _file_task("All scores are the same", '{"sentence1": "a", "sentence2": "b", "score": 1}\n' * 2),
    _file_task("A score is a text", '{"sentence1": "a", "sentence2": "b", "score": "1"}\n'),
    _file_task("A triplet without a negative", '{"query": "q", "positive": "p"}\n'),
    Case("Labels all the same", "evaluate model --tasks t", {
        "t/train.jsonl": '{"text": "a", "label": "x"}\n', "t/test.jsonl": '{"text": "a", "label": "x"}\n'}),
    _recipe("The recipe is empty", ""),
    _recipe("A list as recipe", "- sparsity\n"),
    _recipe("An unknown option", "sparsty: 0.5\n"),
    _recipe("An option twice", "seed: 1\nseed: 2\n"),
    _recipe("A bracket is left open", "sparsity: [0.5\n"),
    _recipe("Code in a tag", "model: !!python/object/apply:os.getcwd []\n"),
    _recipe("Bytes that are no text", b"\xff\xfe\x80"),
    _recipe("A number that is a list", "seed: [1, 2]\n"),
    _recipe("A key that is a list", "? [a, b]\n: 1\n"),
    _recipe("Two documents", "seed: 1\n---\nseed: 2\n"),
    Case("No recipe", "prune --recipe r.yaml --out o"),
    _flags("A sparsity of 50", "--sparsity 50"),
    _flags("A percentage", "--sparsity 50%"),
    _flags("A sparsity that is a word", "--sparsity half"),
    _flags("An unknown granularity", "--granularity 3:2"),
    _flags("An unknown criterion", "--criterion fischer"),
    _flags("A constant that the criterion does not have", "--criterion dai:temper=1"),
    _flags("An unknown option", "--set sparsty=0.5"),
    _provenance("A provenance that is not JSON", "{"),
    _provenance("A provenance that is a list", "[]"),
    _provenance("A provenance of another version", '{"schema": 99}'),
    _provenance("A provenance with nothing in it", '{"schema": 1}'),
    _provenance("A provenance of bytes", b"\xff\xfe\x80"),
)  # fmt: skip


def run(case: Case) -> Outcome:
    """Run the command of a case where its files are, in this process."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in case.files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        before, error = dict(_files()), io.StringIO()
        arguments = patch.object(sys, "argv", ["gaprune", *case.command.split()])
        environment = patch.dict(os.environ, COLUMNS="1000", NO_COLOR="1", HF_HUB_OFFLINE="1")
        code: object = 0
        with arguments, environment, contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            try:
                main()
            except SystemExit as end:
                code = end.code
        after = dict(_files())
    said = [line for line in error.getvalue().splitlines() if line.strip()]
    problem = next((line.removeprefix("error: ") for line in said if line.startswith("error: ")), " ".join(said))
    remedy = next((line.removeprefix("  → ") for line in said if line.startswith("  → ")), "")
    return Outcome(code, problem, remedy, sorted(name for name in after if after[name] != before.get(name)))


def _files() -> Iterator[tuple[str, bytes]]:
    for path in Path().rglob("*"):
        yield str(path), path.read_bytes() if path.is_file() else b""


def row(case: Case, outcome: Outcome) -> str:
    """Return the row of the table."""
    cells = (case.wrong, f"`{case.command}`", outcome.problem, outcome.remedy)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table() -> str:
    """Return the page.

    Raises:
        SystemExit: If a command does not end as it must.
    """
    lines = [
        "# Malformed inputs",
        "",
        "Each of these inputs ends with exit code 2 and this error, without a traceback, and nothing is written.",
        "`python benchmarks/malformed.py` makes the table; a test makes a part of it again.",
        "",
        "| what is wrong | `gaprune …` | error | way out |",
        "| --- | --- | --- | --- |",
    ]
    for case in CASES:
        outcome = run(case)
        if outcome.code != 2 or not outcome.remedy or outcome.written:
            raise SystemExit(f"{case}: {outcome}")
        lines.append(row(case, outcome))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
