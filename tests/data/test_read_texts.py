"""Reading a corpus: plain texts, objects with a text, triplets, and folders of them."""

from __future__ import annotations

import json

import pytest

from gaprune.data.read import read_texts
from gaprune.errors import DataError


def _write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_text_a_line(tmp_path):
    assert read_texts(_write(tmp_path / "a.txt", "one  text", "", "  größer\u2028 ", "\t")) == ["one  text", "größer"]


def test_objects_and_triplets(tmp_path):
    rows = [
        {"text": "first", "query": "not read"},
        {"query": "q", "positive": "p", "negatives": ["n", "m"]},
        {"anchor": "a", "pos": "b"},
        {"text": "last"},
    ]
    path = _write(tmp_path / "a.jsonl", *map(json.dumps, rows))
    assert read_texts(path) == ["first", "q", "p", "n", "m", "a", "b", "last"]


def test_a_folder(tmp_path):
    _write(tmp_path / "b.txt", "second")
    _write(tmp_path / "a.jsonl", '{"text": "first"}')
    _write(tmp_path / "c.md", "no text")
    assert read_texts(str(tmp_path)) == ["first", "second"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": ""}', r"a\.jsonl:2: the column 'text' holds an empty text"),
        ('{"text": 3}', r"a\.jsonl:2: the column 'text' holds 3, not a text"),
        ('{"text": "\\ud800"}', r"a\.jsonl:2: the column 'text' holds half of a surrogate pair"),
        ('{"query": "q"}', r"a\.jsonl:2: .*positive"),
        ("{", r"a\.jsonl:2: is not valid JSON"),
    ],
)
def test_faults_name_the_line(tmp_path, line, words):
    with pytest.raises(DataError, match=words):
        read_texts(_write(tmp_path / "a.jsonl", '{"text": "good"}', line))


def test_faults_of_the_source(tmp_path):
    with pytest.raises(DataError, match=r"the folder holds no text file"):
        read_texts(tmp_path)
    with pytest.raises(DataError, match=r"a\.txt: holds no text"):
        read_texts(_write(tmp_path / "a.txt", " "))
    with pytest.raises(DataError, match=r"b\.txt: does not exist\. Did you mean 'a\.txt'"):
        read_texts(tmp_path / "b.txt")
    with pytest.raises(DataError, match=r"the ending '\.csv' is not a text format"):
        read_texts(_write(tmp_path / "a.csv", "x"))
