"""Data as programs, spreadsheets and publishers write them: pandas, Excel, FlagEmbedding, BEIR, MS MARCO, the hub."""

from __future__ import annotations

import bz2
import gzip
import json

import datasets
import pandas as pd
import pyarrow as pa
import pytest

from gaprune.data.documents.read import read_documents
from gaprune.data.read import read_texts, read_triplets
from gaprune.errors import ConfigError, DataError
from gaprune.evaluation.quality.discovery import find_tasks

ROWS = [
    {"query": "what; is it?", "positive": 'a "loan", to\na state', "negative": "größer"},
    {"query": "7", "positive": "seven", "negative": "eight"},
]
TRIPLETS = [(row["query"], row["positive"], (row["negative"],)) for row in ROWS]


def texts(source, **options):
    return [(item.query, item.positive, item.negatives) for item in read_triplets(source, **options)]


def lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("index.csv", {}),
        ("plain.csv", {"index": False}),
        ("semicolons.csv", {"sep": ";", "index": False}),
        ("quoted.csv", {"sep": ";", "index": False, "quoting": 1}),
        ("bars.csv", {"sep": "|"}),
        ("tabs.csv", {"sep": "\t"}),
        ("tabs.tsv", {"sep": "\t"}),
        ("commas.tsv", {}),
        ("mark.csv", {"encoding": "utf-8-sig"}),
        ("wide.csv", {"encoding": "utf-16", "sep": "\t"}),
        ("windows.csv", {"lineterminator": "\r\n"}),
        ("packed.csv.gz", {}),
        ("packed.csv.bz2", {}),
        ("packed.tsv.gz", {"sep": "\t", "encoding": "utf-16"}),
    ],
)
def test_what_pandas_writes_is_read(tmp_path, capsys, name, options):
    pd.DataFrame(ROWS).to_csv(tmp_path / name, **options)
    assert texts(tmp_path / name) == TRIPLETS
    usual = "\t" if ".tsv" in name else ","
    separator = options.get("sep", ",")
    assert (f"separated by {separator!r}" in capsys.readouterr().err) == (separator != usual)


def test_what_spreadsheets_add_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"sep=;\r\nquery;positive;;\r\na, b;c;;\r\n;;;\r\nd;e\r\n;;;\r\nf;g;;\r\n")
    with pytest.raises(DataError, match=r"a\.csv:5: row 4: has 2 cells; the first row names 4 columns"):
        read_triplets(path)
    path.write_bytes(path.read_bytes().replace(b"d;e\r\n", b"d;e;;;;\r\n"))
    assert [(*each, item.source) for each, item in zip(texts(path), read_triplets(path), strict=True)] == [
        ("a, b", "c", (), f"{path}:3"), ("d", "e", (), f"{path}:5"), ("f", "g", (), f"{path}:7")
    ]  # fmt: skip


@pytest.mark.parametrize("options", [{"lines": True}, {}])
def test_json_as_pandas_writes_it(tmp_path, options):
    pd.DataFrame(ROWS).to_json(tmp_path / "a.json", orient="records", **options)
    assert texts(tmp_path / "a.json") == TRIPLETS
    pd.DataFrame(ROWS).to_json(tmp_path / "b.json")
    with pytest.raises(DataError, match=r'b\.json: .*no list.*\n.*orient="records"'):
        read_triplets(tmp_path / "b.json")


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_compression_and_encoding(tmp_path, encoding, ending):
    content = "".join(f"{json.dumps(row, ensure_ascii=False)}\r\n" for row in ROWS).encode(encoding)
    packed = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": lambda part: pa.compress(part, "zstd")}
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(packed[ending](content))
    assert texts(path) == TRIPLETS
    assert [item.source for item in read_triplets(path)] == [f"{path}:1", f"{path}:2"]
    assert texts(tmp_path) == TRIPLETS
    assert read_texts(path) == [
        text for query, positive, negatives in TRIPLETS for text in (query, positive, *negatives)
    ]
    (tmp_path / f"b.txt{ending}").write_bytes(packed[ending]("one\ntwo".encode(encoding)))
    assert read_texts(tmp_path / f"b.txt{ending}") == ["one", "two"]
    assert read_documents(tmp_path / f"b.txt{ending}")[0].paragraphs[0].text == "one two"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"query": "a"}'.encode("utf-16-le"), r":1: holds the character NUL, as UTF-16"),
        ("a.csv", b"\xff\xfea", r"a\.csv:1: is not UTF-16"),
        ("a.jsonl.gz", gzip.compress(b"x" * 999, mtime=0)[:-12], r"a\.jsonl\.gz: cannot be read: Truncated"),
        ("a.jsonl.gz", b'{"query": "a"}', r"a\.jsonl\.gz: cannot be read: .*header"),
        ("a.jsonl.zst", b'{"query": "a"}', r"a\.jsonl\.zst: cannot be read: "),
        ("a.jsonl.xz", b"", r"the ending '\.xz' is not a triplet format"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_triplets(tmp_path / name)


def test_lists_of_positives_make_a_triplet_each(tmp_path):
    record = {"query": "q", "pos": ["p", "r"], "neg": ["n", "m"], "pos_scores": [1.0, 0.5], "neg_scores": [0.1, 0.2]}
    path = lines(tmp_path / "a.jsonl", [record, {**record, "pos": "[1] a text", "neg": []}])
    expected = [("q", "p", ("n", "m")), ("q", "r", ("n", "m")), ("q", "[1] a text", ())]
    assert texts(path) == expected
    assert [item.source for item in read_triplets(path)] == [f"{path}:1", f"{path}:1", f"{path}:2"]
    pd.read_json(path, lines=True).to_csv(tmp_path / "a.csv")
    assert texts(tmp_path / "a.csv") == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"anchor": "q", "positive": "p", "negative_1": "n", "negative_2": "m"}, [("q", "p", ("n", "m"))]),
        ({"sentence1": "q", "sentence2": "p", "idx": 4}, [("q", "p", ())]),
        ({"set": ["q", "p", "r"], "id": 4}, [("q", "p", ()), ("q", "r", ())]),
        (["q", "p"], [("q", "p", ())]),
        (["q", "p", "n", "m"], [("q", "p", ("n", "m"))]),
    ],
)
def test_layouts_of_sentence_transformers(tmp_path, record, expected):
    assert texts(lines(tmp_path / "a.jsonl", [record])) == expected


@pytest.mark.parametrize(
    ("query", "positive"), [("sentence1", "sentence2"), ("query", "passage"), ("anchor", "answer")]
)
def test_rated_pairs_are_triplets_only_if_their_columns_are_named(tmp_path, query, positive):
    path = lines(tmp_path / "a.jsonl", [{query: "q", positive: "p", "label": 0}])
    with pytest.raises(DataError, match=r"a\.jsonl:1: .*'label'.*\n.*columns"):
        read_triplets(path)
    assert texts(path, columns={"query": query, "positive": positive}) == [("q", "p", ())]


def test_several_negative_columns_are_mapped(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"query": "q", "positive": "p", "b": "m", "a": ["n"], "c": None}])
    mapped = {"negative": "c", "negative_10": "b", "negative_2": "a"}
    assert texts(path, columns=mapped) == [("q", "p", ("n", "m"))]
    with pytest.raises(ConfigError, match=r"negative_x.*\n.*negative_1 to negative_n"):
        read_triplets(path, columns={"negative_x": "a"})


def test_a_table_without_a_row_of_names_is_refused(tmp_path):
    (tmp_path / "triples.tsv").write_text("is coffee ok\ta cup is\ttea\nnext\tp\tn\n")
    with pytest.raises(DataError, match=r"triples\.tsv:2: has no query.*\n.*row of names"):
        read_triplets(tmp_path / "triples.tsv")


CORPUS = [
    {"_id": 1, "title": "", "text": "one"},
    {"_id": "2", "title": "Two", "text": "two", "metadata": {"url": "x"}},
    {"_id": "3", "title": None, "text": "one"},
    {"_id": "4", "title": "", "text": ""},
]
QUERIES = [
    {"_id": 7, "text": "seven"},
    {"_id": "8", "text": "eight", "metadata": {}},
    {"_id": "9", "text": "judged by none"},
]
QRELS = "query-id\tcorpus-id\tscore\n7\t2\t2\n7\t1\t0\n8\t3\t1\n8\t1\t1\n8\t1\t1\n"
JUDGED = [("seven", "Two two", ()), ("eight", "one", ()), ("eight", "one", ())]


@pytest.fixture
def beir(tmp_path):
    lines(tmp_path / "corpus.jsonl", CORPUS)
    lines(tmp_path / "queries.jsonl", QUERIES)
    (tmp_path / "qrels").mkdir()
    for split in ("train", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").write_text(QRELS)
    return tmp_path


def test_beir_is_read_as_triplets_and_as_a_task(beir):
    assert texts(beir) == JUDGED
    assert read_triplets(beir)[0].source == f"{beir / 'qrels' / 'train.tsv'}:2"
    for name in ("corpus.jsonl", "queries.jsonl"):
        (beir / f"{name}.gz").write_bytes(gzip.compress((beir / name).read_bytes()))
        (beir / name).unlink()
    (beir / "qrels" / "train.tsv").rename(beir / "qrels" / "dev.tsv")
    assert texts(beir, split="dev") == JUDGED
    with pytest.raises(DataError, match=r"train\.tsv.*missing.*dev\.tsv, test\.tsv.*\n.*split=dev"):
        read_triplets(beir)
    (task,) = find_tasks(beir)
    assert task.documents == {"1": "one", "2": "Two two", "3": "one", "4": ""}
    assert task.grades == {"7": {"2": 2.0}, "8": {"3": 1.0, "1": 1.0}}
    assert list(task.queries.values()) == ["seven", "eight"]


def test_a_relevant_document_that_is_empty_is_named(beir):
    (beir / "qrels" / "train.tsv").write_text(f"{QRELS}7\t4\t1\n")
    with pytest.raises(DataError, match=r"train\.tsv:7: the document '4', .*is empty.*\n.*corpus\.jsonl"):
        read_triplets(beir)


@pytest.mark.parametrize("place", ["corpus/corpus-0.parquet", "data/corpus-0.parquet"])
def test_beir_as_parquet_is_refused_with_the_way_to_convert_it(tmp_path, place):
    for part in ("corpus", "queries"):
        file = tmp_path / place.replace("corpus", part)
        file.parent.mkdir(exist_ok=True)
        pd.DataFrame([{"_id": "1", "text": "one"}]).to_parquet(file)
    with pytest.raises(DataError, match=r"holds corpus and queries.*\n.*to_json\('corpus\.jsonl'\)"):
        read_triplets(tmp_path)


def test_ms_marco_and_trec_files_are_read(tmp_path):
    (tmp_path / "collection.tsv").write_text("1\tone\n2\tTwo two\n3\tone\n4\tnot judged\n")
    (tmp_path / "queries.train.tsv").write_text("8\teight\n7\tseven\n")
    (tmp_path / "qrels.train.tsv").write_text("7\t0\t2\t1\n8 0 3 1\n8\t0\t1\t0\n")
    assert sorted(texts(tmp_path)) == [("eight", "one", ()), ("seven", "Two two", ())]
    (tmp_path / "collection.tsv").write_text("1\tone\tmore\n")
    with pytest.raises(DataError, match=r"collection\.tsv:1: has 3 columns.*not 2"):
        read_triplets(tmp_path)


def test_splits_and_subsets_of_a_clone_of_the_hub(tmp_path, capsys):
    (tmp_path / "pair" / "data").mkdir(parents=True)
    for split in ("train", "test"):
        for part, row in enumerate(ROWS):
            table = pa.Table.from_pylist([{**row, "query": f"{split} {row['query']}"}])
            pa.parquet.write_table(table, tmp_path / "pair" / "data" / f"{split}-0000{part}-of-00002.parquet")
    (tmp_path / "pair" / "dataset_infos.json").write_text("{}")
    train = [(f"train {query}", *rest) for query, *rest in TRIPLETS]
    assert texts(tmp_path / "pair") == train
    assert "test, train" in capsys.readouterr().err
    assert texts(tmp_path, subset="pair", split="train") == train
    assert not capsys.readouterr().err
    assert texts(tmp_path / "pair", split="test")[0][0].startswith("test ")
    for options, words in (
        ({"split": "dev"}, r"split: .*'dev'.*\n.*test, train"),
        ({"subset": "x"}, r"'x'.*\n.*data"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_triplets(tmp_path / "pair", **options)
    with pytest.raises(DataError, match=r"no triplet file.*\n.*in it"):
        read_triplets(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("en-train.jsonl", "en-test.jsonl"),
        ("my_training.jsonl", "my_testing.jsonl"),
        ("train/0000.jsonl", "test/0000.jsonl"),
    ],
)
def test_test_data_are_not_read_with_training_data(tmp_path, train, test):
    lines(tmp_path / train, ROWS[:1])
    lines(tmp_path / test, ROWS[1:])
    assert texts(tmp_path) == texts(tmp_path, split="train") == TRIPLETS[:1]
    assert texts(tmp_path, split="test") == TRIPLETS[1:]


def test_files_of_no_split_beside_those_of_several_are_said(tmp_path, capsys):
    for name in ("train", "test", "more"):
        lines(tmp_path / f"{name}.jsonl", ROWS[:1])
    assert len(texts(tmp_path)) == 3
    assert "all files are read, with those of the splits test, train" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_pointer_of_git_lfs_is_no_data(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match=r"pointer of Git LFS.*\n.*git lfs pull"):
        read_triplets(tmp_path / name)


def test_what_datasets_saves_is_read(tmp_path):
    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(tmp_path / "several")
    assert texts(tmp_path / "one") == texts(tmp_path / "several") == TRIPLETS
    assert texts(tmp_path / "several", split="test") == TRIPLETS[1:]
    with pytest.raises(DataError, match=r"several: has no split 'dev'.*\n.*train, test"):
        read_triplets(tmp_path / "several", split="dev")
    with pytest.raises(DataError, match=r"one: has no split 'test'"):
        read_triplets(tmp_path / "one", split="test")
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="is not a data set"):
        read_triplets(tmp_path / "one")


def test_columns_of_one_name_in_parquet_are_refused(tmp_path):
    """One of them would be lost."""
    import pyarrow.parquet

    columns = [pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array(["c"])]
    table = pyarrow.Table.from_arrays(columns, names=["query", "positive", "positive"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has several columns 'positive'"):
        read_triplets(tmp_path / "a.parquet")
