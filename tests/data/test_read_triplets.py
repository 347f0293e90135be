"""Reading triplets: every format, every name of a column, every mistake by file and line."""

import csv
import json
import re
from pathlib import Path

import pytest

from gaprune.data.read import read_general, read_triplets
from gaprune.data.triplets import Triplet
from gaprune.errors import ConfigError, DataError

RECORDS = [
    {"query": "what is a bond?", "positive": "a loan, to a state", "negative": 'a "link"'},
    {"query": "two\nlines", "positive": "größer\u2028als", "negative": "x" * 200_000},
]


def write(folder: Path, name: str, records: list[dict]) -> Path:
    path = folder / name
    if path.suffix == ".json":
        path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(records), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    return path


def raised(path: Path, **options) -> DataError:
    with pytest.raises(DataError) as caught:
        read_triplets(path, **options)
    return caught.value


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("a.json", ["record 1", "record 2"]),
        ("a.jsonl", ["1", "2"]),
        ("a.csv", ["2", "3"]),
        ("a.tsv", ["2", "3"]),
        ("a.parquet", ["record 1", "record 2"]),
    ],
)
def test_every_format_gives_the_same_texts(tmp_path, name, places):
    path = write(tmp_path, name, RECORDS)
    limit = csv.field_size_limit()
    triplets = read_triplets(str(path))
    assert csv.field_size_limit() == limit
    assert triplets.name == name
    assert [(item.query, item.positive, item.negatives) for item in triplets] == [
        (record["query"], record["positive"], (record["negative"],)) for record in RECORDS
    ]
    assert [item.source for item in triplets] == [f"{path}:{place}" for place in places]


def test_json_object_with_one_list(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 1, "data": RECORDS}))
    assert len(read_triplets(path)) == 2
    path.write_text(json.dumps({"train": RECORDS, "test": RECORDS}))
    assert "an object with 2 lists ('train', 'test') in it" in raised(path).problem
    path.write_text(json.dumps({"version": 1}))
    assert "an object with no list in it" in raised(path).problem
    path.write_text('"text"')
    assert "is not a list of objects" in raised(path).problem


def test_folder_is_read_in_the_order_of_names(tmp_path):
    folder = tmp_path / "finance"
    folder.mkdir()
    write(folder, "b.csv", [{"anchor": "second", "pos": "p"}])
    write(folder, "a.jsonl", [{"question": "first", "answer": "p"}])
    for number in range(9, 0, -1):
        write(folder, f"c{number}.json", [{"query": f"third {number}", "positive": "p"}])
    (folder / "README.md").write_text("about")
    (folder / ".hidden.jsonl").write_text("no json")
    triplets = read_triplets(folder)
    assert triplets.name == "finance"
    assert [item.query for item in triplets] == ["first", "second", *(f"third {number}" for number in range(1, 10))]


def test_folder_without_data(tmp_path):
    (tmp_path / "README.md").write_text("about")
    error = raised(tmp_path)
    assert str(error).startswith(f"{tmp_path}: the folder holds no triplet file.")
    assert ".jsonl" in error.remedy


@pytest.mark.parametrize("source", ["fiance.jsonl", "missing/finance.jsonl"])
def test_missing_file(tmp_path, source):
    (tmp_path / "finance.jsonl").write_text("")
    error = raised(tmp_path / source)
    assert "does not exist." in error.problem
    if source.startswith("missing"):
        assert f"Its folder {tmp_path / 'missing'} does not exist either." in error.remedy
    else:
        assert "Did you mean 'finance.jsonl'?" in error.problem


def test_texts_that_look_like_paths_never_go_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("gaprune.data.read.read_hub", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for source in ("a.csv", "./a", "../a", "/a", "~/a", "a/b/c", "a\\b", "data/a", Path("a")):
        with pytest.raises(DataError, match="does not exist"):
            read_triplets(source)


def test_unknown_ending(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_text("x")
    assert "the ending '.xlsx' is not a triplet format." in str(raised(path))
    assert "CSV (UTF-8)" in raised(path).remedy
    assert "CSV (UTF-8)" in raised(tmp_path).remedy
    assert ".txt" in raised(path.rename(tmp_path / "a.docx")).remedy
    path = tmp_path / "a.docx"
    path = path.rename(tmp_path / "a")
    assert "a file without an ending" in str(raised(path))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_jsonl(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    assert str(raised(path)).startswith(f"{path}: holds no triplet.")


@pytest.mark.parametrize("content", ["", "query,positive\n"])
def test_empty_csv(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_text(content)
    assert "holds no triplet." in str(raised(path))


def test_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"query": "a", "positive": "b"}\r\n\r\n  \n{"query": "c", "positive": "d"}\n')
    assert [item.source for item in read_triplets(path)] == [f"{path}:1", f"{path}:4"]
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfquery,positive\r\na,b\r\n")
    assert read_triplets(path)[0] == Triplet("a", "b", (), f"{path}:2")


NAMES = [
    ({"Query": "q", "Positive": "p"}, ()),
    ({"anchor": "q", "pos": "p", "neg": "n"}, ("n",)),
    ({"question": "q", "answer": "p", "negatives": ["n", "m"]}, ("n", "m")),
    ({"query": "q", "passage": "p", "neg": ["n", "m"]}, ("n", "m")),
    ({"query": "q", "positive": "p", "negative_10": "c", "negative_2": "b", "negative_1": "a"}, ("a", "b", "c")),
    ({"query": "q", "positive": "p", "negative": "a", "negative_2": "b"}, ("a", "b")),
    ({"query": "q", "positive": "p", "negative_1": "a", "negative_2": None}, ("a",)),
    ({"query": "q", "positive": "p", "negatives": []}, ()),
    ({"query": "q", "positive": "p", "negatives": None, "id": 3, "score": [0.5]}, ()),
]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize(("record", "negatives"), NAMES)
def test_recognised_names(tmp_path, record, negatives, ending):
    item = read_triplets(write(tmp_path, f"a{ending}", [record]))[0]
    assert (item.query, item.positive, item.negatives) == ("q", "p", negatives)


def test_records_of_one_file_may_differ(tmp_path):
    records = [{"query": "a", "positive": "b"}, {"query": "c", "positive": "d", "negative": "e"}]
    triplets = read_triplets(write(tmp_path, "a.jsonl", records))
    assert [item.negatives for item in triplets] == [(), ("e",)]


def test_list_of_negatives_in_a_csv_cell(tmp_path):
    path = write(tmp_path, "a.csv", [{"query": "q", "positive": "p", "negatives": '["n", "m"]'}])
    assert read_triplets(path)[0].negatives == ("n", "m")
    path = write(tmp_path, "b.csv", [{"query": "q", "positive": "p", "negatives": "n"}])
    assert read_triplets(path)[0].negatives == ("n",)
    for cell in ("['n' 'm']", '["n", ', '["n", "m'):  # numpy's, and cut
        path = write(tmp_path, "c.csv", [{"query": "q", "positive": "p", "negatives": cell}])
        error = raised(path)
        assert str(error).startswith(f"{path}:2: the column 'negatives' holds ")
        assert "not a list of texts" in error.problem
        assert '["first", "second"]' in error.remedy


def test_columns_map_our_words(tmp_path):
    path = write(tmp_path, "a.csv", [{"query": "id-7", "text": "q", "doc": "p", "bad": "n"}])
    item = read_triplets(path, columns={"query": "text", "positive": "doc", "negative": "bad"})[0]
    assert (item.query, item.positive, item.negatives) == ("q", "p", ("n",))
    path = write(tmp_path, "b.jsonl", [{"question": "p", "answer": "q", "bad": ["n"]}])
    item = read_triplets(path, columns={"query": "answer", "positive": "question", "negatives": "bad"})[0]
    assert (item.query, item.positive, item.negatives) == ("q", "p", ("n",))


def test_a_mapped_column_is_nothing_else(tmp_path):
    path = write(tmp_path, "a.jsonl", [{"answer": "q", "positive": "p"}])
    assert read_triplets(path, columns={"query": "answer"})[0].positive == "p"
    path = write(tmp_path, "b.jsonl", [{"neg_1": "q", "positive": "p", "neg_2": "n"}])
    assert read_triplets(path, columns={"query": "neg_1"})[0].negatives == ("n",)


def test_unknown_word_in_columns(tmp_path):
    path = write(tmp_path, "a.jsonl", RECORDS)
    with pytest.raises(ConfigError, match=r"columns: 'querry' is not a part of a triplet. Did you mean 'query'\?"):
        read_triplets(path, columns={"querry": "text"})


def test_mapped_column_that_is_not_there(tmp_path):
    path = write(tmp_path, "a.csv", [{"text": "q", "doc": "p"}])
    error = raised(path, columns={"query": "texts", "positive": "doc"})
    assert str(error).startswith(f"{path}:2: there is no column 'texts', which columns maps to 'query'.")
    assert "Did you mean 'text'?" in error.problem
    assert "The columns are 'text', 'doc'." in error.problem
    assert "--set columns.query=NAME " in error.remedy


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"qery": "q", "positive": "p"}, "has no query: no column is named"),
        ({"query": "q", "text": "p"}, "is named 'positive' or 'pos' or "),
        ({"query": "q", "question": "q", "positive": "p"}, "the columns 'query', 'question' could each be the query."),
        (
            {"query": "q", "positive": "p", "neg": "n", "negatives": ["m"]},
            "the columns 'neg', 'negatives' could each be the negatives.",
        ),
        ({"query": "q", "positive": "p", "neg": "n", "negative": "m"}, "could each be the negative."),
    ],
)
def test_columns_that_cannot_be_told(tmp_path, record, words):
    path = write(tmp_path, "a.jsonl", [record])
    error = raised(path)
    assert str(error).startswith(f"{path}:1: ")
    assert words in error.problem
    assert "--set columns" in error.remedy


def test_all_faults_of_columns_are_named_at_once(tmp_path):
    path = write(tmp_path, "a.csv", [{"frage": "q", "antwort": "p", "neg": "n"}])
    error = raised(path)
    assert "has no query" in error.problem
    assert "has no positive" in error.problem
    assert "'frage', 'antwort', 'neg'" in error.problem
    assert "--set columns.query=NAME --set columns.positive=NAME" in error.remedy
    error = raised(path, columns={"query": "fragen", "positive": "text", "negative_1": "bad"})
    assert all(word in error.problem for word in ("'fragen'", "Did you mean 'frage'?", "'text'", "'bad'"))
    assert "--set columns.query=NAME --set columns.positive=NAME --set columns.negative_1=NAME" in error.remedy
    with pytest.raises(ConfigError, match=r"(?s)'querry'.*'positve'"):
        read_triplets(path, columns={"querry": "frage", "positve": "antwort"})


def test_columns_of_general_data_are_mapped_by_an_option_of_their_own(tmp_path):
    path = write(tmp_path, "a.csv", [{"frage": "q", "antwort": "p"}])
    with pytest.raises(DataError, match=r"--set general_columns\.query=NAME --set general_columns\.positive"):
        read_general(path)


def test_near_name_of_a_column(tmp_path):
    assert "Did you mean 'qery'?" in raised(write(tmp_path, "a.jsonl", [{"qery": "q", "positive": "p"}])).problem
    assert "Did you mean" not in raised(write(tmp_path, "b.jsonl", [{"frage": "q", "antwort": "p"}])).problem


MISTAKES = [
    ({"query": None, "positive": "p"}, "the cell in column 'query' is empty."),
    ({"query": " \n", "positive": "p"}, "the column 'query' holds an empty text."),
    ({"query": "q", "positive": 42}, "the column 'positive' holds 42, not a text."),
    ({"query": ["q"], "positive": "p"}, "the column 'query' holds ['q'], not a text."),
    ({"query": "q", "positive": []}, "the cell in column 'positive' is empty."),
    ({"query": "q", "positive": None}, "the cell in column 'positive' is empty."),
    ({"query": "q", "positive": ["p", 3]}, "the column 'positive[1]' holds 3, not a text."),
    ({"query": "q", "positive": "p", "negative_2": ""}, "the column 'negative_2' holds an empty text."),
    ({"query": "q", "positive": "p", "negative": 1.5}, "the column 'negative' holds 1.5, not a text."),
    ({"query": "q", "positive": "p", "negatives": ["n", ""]}, "the column 'negatives[1]' holds an empty text."),
    ({"query": "q", "positive": "p", "negatives": [None]}, "the cell in column 'negatives[0]' is empty."),
    ({"query": "q", "positive": "p", "negatives": {"n": 1}}, "the column 'negatives' holds {'n': 1}, not a text."),
    ({"set": ["q"]}, "the set holds 1 texts."),
    ({"sentence1": "q", "sentence2": "p", "score": 0.1}, "holds a pair of texts that 'score' rates"),
]


@pytest.mark.parametrize(("ending", "place"), [(".jsonl", "2"), (".json", "record 2")])
@pytest.mark.parametrize(("record", "words"), MISTAKES)
def test_a_wrong_cell_is_named_with_its_line(tmp_path, record, words, ending, place):
    path = write(tmp_path, f"a{ending}", [{"query": "q", "positive": "p"}, record])
    error = raised(path)
    assert str(error).startswith(f"{path}:{place}: {words}")
    assert error.remedy


def test_wrong_type_in_parquet(tmp_path):
    path = write(tmp_path, "a.parquet", [{"query": "q", "positive": 3}])
    assert str(raised(path)).startswith(f"{path}:record 1: the column 'positive' holds 3, not a text.")


def test_half_a_surrogate_pair(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"query": "q \ud83d", "positive": "p"}')
    assert str(raised(path)).startswith(f"{path}:1: the column 'query' holds half of a surrogate pair ('\\ud83d')")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '{"query": "a", "positive": "b"}\n{"query": "c"',
            "2: is not valid JSON: Expecting ',' delimiter (column 14).",
        ),
        ('\n["a"]', "2: is a list, not an object."),
        ('\n["a", 2]', "2: is a list, not an object."),
        ('\n\n"a"', "3: is a text, not an object."),
        ("3", "1: is a number, not an object."),
        ("null", "1: is null, not an object."),
        ('{"query": "a", "query": "b"}', "1: is not usable JSON: the key 'query' appears twice in one object."),
        ("[" * 100_000, "1: is not"),
    ],
)
def test_wrong_lines_of_jsonl(tmp_path, content, words):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    error = raised(path)
    assert str(error).startswith(f"{path}:{words}")
    assert error.line == int(words[0])


def test_wrong_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[\n{"query": "a",\n "positive" "b"}]')
    assert str(raised(path)).startswith(f"{path}:3: is not valid JSON")
    path.write_text('[{"query": "a", "positive": "b"}, 4]')
    assert str(raised(path)).startswith(f"{path}:record 2: is a number, not an object.")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_undecodable_text(tmp_path, name):
    path = tmp_path / name
    first = b'{"query": "a", "positive": "b"}' if name == "a.jsonl" else b"query,positive"
    path.write_bytes(first + b"\n\ncaf\xe9,b\n")
    error = raised(path)
    assert str(error).startswith(f"{path}:3: is not UTF-8 (byte 0xe9).\nSave the file again")


def test_lines_of_multi_line_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('query,positive\n"one\ntwo\nthree",b\n\nc,d\n')
    assert [item.source for item in read_triplets(path)] == [f"{path}:2", f"{path}:6"]
    path.write_text('query,positive\n"one\ntwo",b\nc,d,e\n')
    error = raised(path)
    assert str(error).startswith(f"{path}:4: row 3: has 3 cells; the first row names 2 columns.")
    path.write_text('query,positive\n"one\ntwo",b\nc\n')
    assert str(raised(path)).startswith(f"{path}:4: row 3: has 1 cells")
    path.write_text('sep=;\nquery;positive\n"one\ntwo";b\n;d\n')
    assert str(raised(path)).startswith(f"{path}:5: row 3: the cell in column 'query' is empty.")


class TestSeveralFaults:
    @pytest.fixture
    def path(self, tmp_path):
        rows = [{"query": "q", "positive": "" if number % 2 else f"p{number}"} for number in range(24)]
        return write(tmp_path, "a.csv", rows)

    def test_are_named_together(self, path):
        error = raised(path)
        problem, *lines = error.problem.splitlines()
        assert problem == "12 records cannot be used:"
        assert lines[0].strip() == f"{path}:3: the cell in column 'positive' is empty."
        assert lines[9].strip().startswith(f"{path}:21: ")
        assert lines[10].strip() == "and 2 more"
        assert "--set skip_empty=true" in error.remedy

    def test_what_cannot_be_read_further_is_named_with_them(self, tmp_path):
        path = tmp_path / "a.jsonl"
        path.write_text('{"query": "", "positive": "p"}\n{"query": "q", "positive": 3}\n{"query"\n{}\n')
        error = raised(path)
        assert [line.partition(f"{path}:")[2][:2] for line in error.problem.splitlines()[1:]] == ["1:", "2:", "3:"]

    def test_records_without_a_text_are_left_out_if_that_is_asked_for(self, path, capsys):
        assert len(read_triplets(path, skip_empty=True)) == 12
        assert "12 records left out because a text is missing" in capsys.readouterr().err

    def test_other_faults_are_never_left_out(self, tmp_path):
        path = write(tmp_path, "a.jsonl", [{"query": None, "positive": "p"}, {"query": 3, "positive": "p"}])
        with pytest.raises(DataError, match=r":2: the column 'query' holds 3, not a text") as caught:
            read_triplets(path, skip_empty=True)
        assert ":1:" not in caught.value.problem

    def test_general_data_have_no_such_option(self, path):
        with pytest.raises(DataError) as caught:
            read_general(path)
        assert "skip_empty" not in caught.value.remedy


def test_open_quote(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('query,positive\na,b\n"c,d\ne,f\n')
    error = raised(path)
    assert str(error).startswith(f"{path}:3: cannot be read as a row of cells")
    assert "Close every quote" in error.remedy


def test_columns_of_the_same_name_hold_a_list(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("query,positive,neg,neg,note,note\nq,p,n,m,1,2\n")
    assert read_triplets(path)[0].negatives == ("n", "m")
    path.write_text("query,positive,query\nq,p,r\n")
    assert str(raised(path)).startswith(f"{path}:2: the column 'query' holds ['q', 'r'], not a text.")


def test_an_empty_cell_is_null(tmp_path):
    path = write(tmp_path, "a.csv", [{"query": "q", "positive": "p", "negative_1": "n", "negative_2": ""}])
    assert read_triplets(path)[0].negatives == ("n",)
    path = write(tmp_path, "b.csv", [{"query": "q", "positive": "", "negative": "n"}])
    assert str(raised(path)).startswith(f"{path}:2: the cell in column 'positive' is empty.")


def test_broken_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no")
    assert str(raised(path)).startswith(f"{path}: is not a readable Parquet file: ")


def test_required_negatives(tmp_path):
    records = [*RECORDS, {"query": "q", "positive": "p"}, {"query": "r", "positive": "p"}]
    path = write(tmp_path, "a.jsonl", records)
    assert len(read_triplets(path)) == 4
    error = raised(path, require_negatives=True)
    assert f"{path}:3: has no negative, and explicit negatives are required here." in error.problem
    assert len(read_triplets(write(tmp_path, "b.jsonl", RECORDS), require_negatives=True)) == 2


@pytest.mark.parametrize("option", ["subset", "split"])
def test_hub_options_of_a_local_file(tmp_path, option):
    path = write(tmp_path, "a.jsonl", RECORDS)
    with pytest.raises(ConfigError, match=re.escape(f"{option}: {path} is a file.")):
        read_triplets(path, **{option: "train"})


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path, "a.jsonl", RECORDS)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert str(raised(path)).startswith(f"{path}: cannot be read: Permission denied.")
