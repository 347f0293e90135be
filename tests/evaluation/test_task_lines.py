import pytest

from gaprune.errors import DataError
from gaprune.evaluation.quality.discovery import find_tasks


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{'a'}", r"t\.jsonl:2: is not valid JSON: "),
        ("[1]", r"t\.jsonl:2: is a list, not an object"),
        ({}, r"(?s)t\.jsonl:2: has no query: .*It has no positive: .*Rename the columns\.(?!.*--set)"),
        (
            {"query": "a", "positve": "b", "negative": "c"},
            r"t\.jsonl:2: has no positive: .*Did you mean 'positve'\?",
        ),
        ({"query": 3, "positive": "b"}, r"t\.jsonl:2: the column 'query' holds 3, not a text\."),
        ({"query": " \n", "positive": "b"}, r"t\.jsonl:2: the column 'query' holds an empty text\."),
        (r'{"query": "a\ud83d", "positive": "b"}', r"t\.jsonl:2: the column 'query' holds half of a surrogate pair"),
        ({"query": "a", "positive": "b", "negatives": []}, r":2: has no negative"),
        ({"query": "a", "positive": "b"}, r":2: has no negative"),
        ({"query": "a", "positive": "b", "negatives": ["c", ""]}, r":2: the column 'negatives\[1\]' holds an empty"),
        (
            {"query": "a", "positive": "b", "negative": "c", "negatives": ["d"]},
            r":2: the columns 'negative', 'negatives' could each be",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path, write, line, text):
    path = write(tmp_path / "t.jsonl", [{"query": "a", "positive": "b", "negative": "c"}, line])
    with pytest.raises(DataError, match=text) as caught:
        find_tasks(path)
    assert (caught.value.source, caught.value.line) == (path, 2)


def test_an_empty_file_is_refused(tmp_path, write):
    with pytest.raises(DataError, match=r"t\.jsonl: the file is empty\.\nWrite one JSON object per line"):
        find_tasks(write(tmp_path / "t.jsonl", ["", "  "]))


def test_a_line_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes('{"query": "a", "positive": "b", "negative": "c"}\n{"query": "ä"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.jsonl:2: is not UTF-8"):
        find_tasks(path)


def test_windows_files_blank_lines_and_line_separators_in_texts_are_read(tmp_path):
    path = tmp_path / "t.jsonl"
    line = '{"query": "a\u2028b", "positive": "p", "negatives": ["n", "m"]}'
    path.write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n{line}\r\n".encode())
    (task,) = find_tasks(path)
    assert task.triplets == (("a\u2028b", "p", "n"), ("a\u2028b", "p", "m")) * 2
