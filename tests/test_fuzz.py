"""Whatever a file or an option holds, the result is an error of ours or a value: never another exception."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaprune.config.files import load_recipe
from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.data.documents.read import read_documents
from gaprune.data.read import read_texts, read_triplets
from gaprune.errors import ConfigError, DataError, ModelError
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.export.provenance import PROVENANCE_FILE, Provenance
from provenances import unstructured

EXAMPLES = settings(derandomize=True, database=None, deadline=None, max_examples=300)

WORDS = st.sampled_from(
    ["query", "positive", "pos", "neg", "negatives", "negative_1", "sentence1", "score", "label", "set", "text", "_id"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(WORDS, st.text(max_size=6) | JSON, max_size=5) | JSON, max_size=4)
ENDINGS = st.sampled_from([".json", ".jsonl", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.zst", ".txt", ".md"])
WHOLE = {
    "json": b'[{"query": "q", "positive": ["p"], "negatives": ["n"]}]',
    "lines": b'{"query": "q", "pos": ["p", "r"], "neg": "n"}\n{"set": ["a", "b"]}\n["a", "b", "c"]\n',
    "table": b'sep=;\nquery;positive;negatives;\n"a ""b""";c;["d", "e"];\n',
    "mark": '\ufeffquery,positive\r\n"ä\r\n",b\r\n'.encode(),
    "wide": "query\tpositive\na\tb\n".encode("utf-16"),
    "packed": gzip.compress(b'{"query": "q", "positive": "p"}\n', mtime=0),
    "markdown": b"---\ntitle: t\n---\n# One\n\ntext\n\n- a\n- b\n",
}


@st.composite
def damaged(draw, whole):
    """Bytes of a sound file with a few parts cut out, doubled or replaced."""
    content = draw(st.sampled_from(sorted(whole))) if isinstance(whole, dict) else whole
    content = whole[content] if isinstance(whole, dict) else content
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 6)))
        content = content[:start] + draw(st.binary(max_size=4) | st.just(content[start:end] * 2)) + content[end:]
    return content


CONTENTS = damaged(WHOLE) | st.binary(max_size=40) | ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)).encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@EXAMPLES
@given(content=CONTENTS, ending=ENDINGS)
def test_readers(folder, content, ending):
    path = folder / f"a{ending}"
    path.write_bytes(content)
    for read in (read_triplets, read_texts, read_documents, find_tasks):
        with suppress(DataError):
            read(path)
    path.unlink()


@EXAMPLES
@given(rows=ROWS, columns=st.dictionaries(WORDS | st.just("negative_2"), WORDS, max_size=2))
def test_mapped_columns(folder, rows, columns):
    path = folder / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with suppress(DataError, ConfigError):
        read_triplets(path, columns=columns)
    path.unlink()


@EXAMPLES
@given(name=st.sampled_from(["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "train.jsonl"]), content=CONTENTS)
def test_folders_of_tasks(folder, name, content):
    task = folder / "task"
    (task / "qrels").mkdir(parents=True, exist_ok=True)
    (task / "corpus.jsonl").write_text('{"_id": 1, "text": "t"}\n')
    (task / "queries.jsonl").write_text('{"_id": 1, "text": "t"}\n')
    (task / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\t1\t1\n")
    (task / name).write_bytes(content)
    for read in (find_tasks, read_triplets):
        with suppress(DataError, ConfigError):
            read(task)


RECIPE = b"sparsity: [0.3, 0.5]\ntargets: mlp, attention\nrecovery: {warmup: 0.3}\nseed: 0x10\ncolumns:\n  query: q\n"


@EXAMPLES
@given(
    content=damaged(RECIPE)
    | st.binary(max_size=30)
    | st.text(max_size=30).map(str.encode)
    | JSON.map(json.dumps).map(str.encode)
)
def test_recipes(folder, content):
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    with suppress(ConfigError):
        Recipe.build(load_recipe(path))


@pytest.mark.parametrize("kind", [Recipe, RecoveryOptions])
@EXAMPLES
@given(data=st.data())
def test_options(kind, data):
    names = st.sampled_from(sorted(kind.model_fields))
    values = JSON | st.sampled_from(["0.5", "2:4", "8GB", "1e9", "-1", "true", "a=b", "re:(", "50%", "nan", "9" * 400])
    with suppress(ConfigError):
        kind.build(data.draw(st.dictionaries(names, values, max_size=3)))


def _places(value, place=()):
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _places(each, (*place, key))


@EXAMPLES
@given(data=st.data())
def test_provenance(folder, data):
    content = unstructured().as_dict()
    for _ in range(data.draw(st.integers(1, 2))):
        *above, last = data.draw(st.sampled_from([place for place in _places(content) if place]))
        owner = content
        for key in above:
            owner = owner[key]
        owner[last] = data.draw(JSON)
    written = json.dumps(content).encode()
    (folder / PROVENANCE_FILE).write_bytes(data.draw(st.just(written) | damaged(written)))
    with suppress(ModelError):
        found = Provenance.read(folder)
        assert found is not None
        json.dumps(found.as_dict())
