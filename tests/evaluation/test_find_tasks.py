import re
from pathlib import Path

import pytest

from gaprune.errors import DataError
from gaprune.evaluation.quality.discovery import find_tasks


def binary(rows):
    return [{**row, "score": int(row["score"] > 2)} for row in rows]


TRIPLET = {"query": "red cat", "positive": "cat", "negative": "acid"}


def test_finds_all_kinds_flat_and_by_domain(tmp_path, write, retrieval, classification, graded_pairs):
    retrieval(tmp_path / "zoo" / "Search")
    classification(tmp_path / "zoo" / "Labels")
    write(tmp_path / "metals" / "Similar.jsonl", graded_pairs)
    write(tmp_path / "metals" / "Match.jsonl", binary(graded_pairs))
    write(tmp_path / "Triples.jsonl", [TRIPLET])
    write(tmp_path / "README.md", ["# not a task"])
    write(tmp_path / ".hidden" / "x.jsonl", ["not read"])
    found = [(task.domain, task.name, task.kind, task.metric) for task in find_tasks(tmp_path)]
    assert found == [
        ("", "Triples", "triplets", "accuracy"),
        ("metals", "Match", "pair classification", "AP"),
        ("metals", "Similar", "STS", "Spearman"),
        ("zoo", "Labels", "classification", "accuracy"),
        ("zoo", "Search", "retrieval", "nDCG@10"),
    ]


def test_the_names_of_ms_marco(tmp_path, write):
    folder = tmp_path / "Search"
    write(folder / "collection.tsv", ["1\tred cat", "2\tblue bird"])
    write(folder / "queries.tsv", ["7\tcat"])
    write(folder / "qrels.test.tsv", ["7\t0\t1\t1"])
    (task,) = find_tasks(tmp_path)
    assert (task.kind, task.queries, task.grades) == ("retrieval", {"7": "cat"}, {"7": {"1": 1}})


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_single_task_is_found_without_domain(tmp_path, write, retrieval, graded_pairs, kind):
    path = retrieval(tmp_path / "T") if kind == "folder" else write(tmp_path / "T.jsonl", graded_pairs)
    (task,) = find_tasks(path)
    assert (task.name, task.domain) == ("T", "")


def test_the_current_folder_as_task_has_its_name(tmp_path, monkeypatch, retrieval):
    monkeypatch.chdir(retrieval(tmp_path / "Here"))
    assert [task.name for task in find_tasks(Path())] == ["Here"]


def test_fingerprint_follows_the_contents_alone(tmp_path, write, retrieval, graded_pairs):
    (first,) = find_tasks(retrieval(tmp_path / "A"))
    (same,) = find_tasks(retrieval(tmp_path / "B"))
    (other,) = find_tasks(retrieval(tmp_path / "C", qrels=["q0\td0\t1"]))
    assert len(first.fingerprint) == 64
    assert first.fingerprint == same.fingerprint != other.fingerprint
    (pairs,) = find_tasks(write(tmp_path / "p.jsonl", graded_pairs))
    (more,) = find_tasks(write(tmp_path / "q.jsonl", [*graded_pairs, graded_pairs[0]]))
    assert pairs.fingerprint != more.fingerprint


def test_texts_are_what_calibration_must_not_hold(tmp_path, write, retrieval, classification, graded_pairs):
    (search,) = find_tasks(retrieval(tmp_path / "A"))
    assert list(search.texts()) == [
        *("red cat", "dog green", "three bird", "gold iron one"),
        *("red cat one", "cat dog five", "green dog two", "blue bird three", "four five bird", "salt fish"),
    ]
    (labels,) = find_tasks(classification(tmp_path / "B"))
    assert "cat three" in set(labels.texts())
    assert "cat one" not in set(labels.texts())
    (pairs,) = find_tasks(write(tmp_path / "p.jsonl", graded_pairs))
    assert list(pairs.texts()) == [row[side] for side in ("sentence1", "sentence2") for row in graded_pairs]
    (triples,) = find_tasks(write(tmp_path / "t.jsonl", [TRIPLET, TRIPLET]))
    assert list(triples.texts()) == ["red cat", "cat", "acid"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda root: None, r"F: this folder does not exist\."),
        (lambda root: root.mkdir(), r"F: the folder holds no task\.\nA task is a folder with corpus\.jsonl"),
        (lambda root: (root / "D").mkdir(parents=True), r"F/D: the folder holds no task\."),
        (
            lambda root: (root / "D" / "T").mkdir(parents=True),
            r"F/D/T: the folder is not an evaluation task\.\nA task is",
        ),
        (lambda root: root.write_text("x"), r"F: this is neither a folder nor a \.jsonl file\."),
    ],
)
def test_a_folder_that_is_none_is_refused(tmp_path, make, text):
    make(tmp_path / "F")
    with pytest.raises(DataError, match=text):
        find_tasks(tmp_path / "F")


def test_a_file_of_unknown_fields_is_refused(tmp_path, write):
    path = write(tmp_path / "x.jsonl", [{"text1": "a", "text2": "b"}])
    with pytest.raises(DataError, match=re.escape("x.jsonl:1: the columns ('text1', 'text2') do not match any")):
        find_tasks(path)


def test_two_tasks_of_one_name_are_refused(tmp_path, write, retrieval, graded_pairs):
    retrieval(tmp_path / "D" / "T")
    write(tmp_path / "D" / "T.jsonl", graded_pairs)
    with pytest.raises(DataError, match=r"D: two tasks are named 'T'\.\nRename one"):
        find_tasks(tmp_path)


def test_files_that_may_be_meant_as_tasks_are_named(tmp_path, write, graded_pairs, capsys):
    write(tmp_path / "A.jsonl", graded_pairs)
    for name in ("B.JSONL", "C.jsonl.gz", "notes.txt"):
        (tmp_path / name).write_text("a")
    assert [task.name for task in find_tasks(tmp_path)] == ["A"]
    assert "B.JSONL, C.jsonl.gz." in capsys.readouterr().err
