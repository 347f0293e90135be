"""Reading documents of every format: titles, headings, paragraphs and their lines."""

import json

import pytest

from gaprune.data.documents.read import holds_documents, read_documents
from gaprune.errors import DataError

MARKDOWN = """\
---
title: "Lending rules"
date: 2024
---
# Loans

A *loan* has a [rate](http://x.y)
and a `term`.

```python
code = "is left out"
```

## Rates

- one **rate**
- another rate
  - a third

| a | table |
|---|-------|
| is | left out |

> A quoted rate.

Repayment
---------
<!-- a comment -->
![a picture](p.png)
Every month.
"""


def read(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return read_documents(path)


def test_markdown(tmp_path):
    (found,) = read(tmp_path / "a.md", MARKDOWN)
    assert (found.id, found.title) == ("a.md", "Lending rules")
    assert [(part.line, part.section, part.heading, part.text) for part in found.paragraphs] == [
        (7, 1, "Loans", "A loan has a rate and a term."),
        (16, 2, "Rates", "one rate\nanother rate\na third"),
        (24, 2, "Rates", "A quoted rate."),
        (29, 3, "Repayment", "Every month."),
    ]


@pytest.mark.parametrize(
    ("text", "title", "heading"),
    [
        ("# One\n\ntext\n\n## Two\n\nmore\n", "One", ""),
        ("# One\n\ntext\n\n# Two\n\nmore\n", "", "One"),
        ("text\n\n# One\n\nmore\n", "", ""),
    ],
)
def test_title_of_markdown_is_its_one_first_heading(tmp_path, text, title, heading):
    (found,) = read(tmp_path / "a.markdown", text)
    assert (found.title, found.paragraphs[0].heading) == (title, heading)
    assert [part.text for part in found.paragraphs] == ["text", "more"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_plain_text(tmp_path, end):
    text = "\ufeffThe Loan\n\nIt is due\nin May.\n \nÄnderung: it is not.\n".replace("\n", end)
    (found,) = read(tmp_path / "a.txt", text)
    assert found.title == "The Loan"
    assert [(part.line, part.text) for part in found.paragraphs] == [
        (3, "It is due in May."),
        (6, "Änderung: it is not."),
    ]


@pytest.mark.parametrize("first", ["It is due.", "word " * 16, "two\nlines;"])
def test_plain_text_without_a_title(tmp_path, first):
    (found,) = read(tmp_path / "a.txt", f"{first}\n\nmore")
    assert (found.title, len(found.paragraphs)) == ("", 2)


def test_json_lines(tmp_path):
    rows = [
        {"_id": "d1", "title": "Loans ", "text": "one\u2028same\n\ntwo"},
        {"text": "three"},
        {"id": 7, "text": None},
    ]
    found = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [(each.id, each.title, each.line) for each in found] == [
        ("d1", "Loans", 1),
        ("a.jsonl:2", "", 2),
        ("7", "", 3),
    ]
    assert [[(part.text, part.line) for part in each.paragraphs] for each in found] == [
        [("one same", 1), ("two", 1)],
        [("three", 2)],
        [],
    ]


def test_folders(tmp_path):
    for name in ("b/c.txt", "a.md", "b/.hidden.md", ".git/x.md", "b/n.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    assert [each.id for each in read_documents(tmp_path)] == ["a.md", "b/c.txt"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"body": "b"}', r":2: the column 'text' is missing; the columns are 'body'"),
        ("a.jsonl", '{"txt": "b"}', r":1: the column 'text' is missing.* Did you mean 'txt'\?"),
        ("a.jsonl", '{"text": 5}', r":1: the column 'text' holds 5, not a text"),
        ("a.jsonl", '{"text": "a", "title": ["b"]}', r":1: the column 'title' holds \['b'\], not a text"),
        ("a.jsonl", '{"text": "\\ud800"}', r":1: the column 'text' holds half of a surrogate pair"),
        ("a.jsonl", '\n"a"', r":2: is a text, not an object"),
        (
            "a.jsonl",
            '{"_id": "x", "text": "a"}\n{"_id": "x", "text": "b"}',
            r":2: has the id 'x', as has .*a\.jsonl:1",
        ),
        ("a.docx", "", r"the ending '\.docx' is not a document format"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / name, text)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\nbad \xff")
    with pytest.raises(DataError, match=r"a\.txt:2: is not UTF-8"):
        read_documents(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="the folder holds no document file"):
        read_documents(tmp_path)
    (tmp_path / "notes.md").write_text("a")
    with pytest.raises(DataError, match=r"does not exist. Did you mean 'notes.md'"):
        read_documents(tmp_path / "note.md")


HTML = """<!doctype html><html><head><title>Lending
rules</title><style>p { color: red }</style></head><body>
<nav><a href="/">Home</a></nav>
<h1>Loans</h1><svg><title>Icon</title><path/></svg>
<p>A <em>loan</em> has a
rate &amp; a term.</p>
<script>var x = "<p>left out</p>";</script>
<h2>Rates</h2>
<ul><li>one rate</li><li>another rate</ul>
<table><tr><td>left out</td></tr></table>
<p>Repayment every month.
</body></html>"""


def _pdf(*pages):
    """Return a PDF with lines of text on each page, written by hand."""
    from io import BytesIO

    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    for lines in pages:
        page = writer.add_blank_page(width=300, height=300)
        fonts = DictionaryObject(
            {NameObject("/F1"): DictionaryObject({NameObject(key): NameObject(name) for key, name in font.items()})}
        )
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        shown = " ".join(f"1 0 0 1 20 {280 - 14 * row} Tm ({line}) Tj" for row, line in enumerate(lines))
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf {shown} ET".encode())
        page[NameObject("/Contents")] = stream
    writer.add_metadata({"/Title": "Lending rules"})
    file = BytesIO()
    writer.write(file)
    return file.getvalue()


def test_html(tmp_path):
    path = tmp_path / "rules.html"
    path.write_text(HTML, encoding="utf-8")
    (document,) = read_documents(path)
    assert document.title == "Lending rules"
    assert [(each.text, each.heading) for each in document.paragraphs] == [
        ("A loan has a rate & a term.", ""),
        ("one rate", "Rates"),
        ("another rate", "Rates"),
        ("Repayment every month.", "Rates"),
    ]
    assert document.paragraphs[0].line == 5


def test_html_with_an_element_that_is_never_closed(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("<nav><pre>menu</nav><p>A loan.", encoding="utf-8")
    assert [each.text for each in read_documents(path)[0].paragraphs] == ["A loan."]


def test_html_whose_whole_page_is_a_form(tmp_path):
    path = tmp_path / "a.html"
    controls = "<label>Name</label><select><option>one</option></select><textarea>two</textarea><button>Send</button>"
    path.write_text(f"<body><form><h1>Loans</h1><p>A loan.</p>{controls}<p>A term.</form>", encoding="utf-8")
    assert [each.text for each in read_documents(path)[0].paragraphs] == ["A loan.", "A term."]


def test_pdf_has_paragraphs_by_page_and_words_that_were_divided(tmp_path):
    path = tmp_path / "rules.pdf"
    path.write_bytes(_pdf(["A loan has a re-", "payment plan.", "Every month counts."], ["The second page."]))
    (document,) = read_documents(path)
    assert document.title == "Lending rules"
    assert [(each.text, each.line) for each in document.paragraphs] == [
        ("A loan has a repayment plan.", 1),
        ("Every month counts.", 1),
        ("The second page.", 2),
    ]


def _encrypted():
    """A file in the cipher for which pypdf needs another library: what it says of it is enough."""
    by = b"<< /Filter /Standard /V 5 /R 6 /Length 256 /P -1 /O (%s) /U (%s) /OE (%s) /UE (%s) /Perms (%s)"
    by %= (b"o" * 48, b"u" * 48, b"o" * 32, b"u" * 32, b"p" * 16)
    by += b" /StmF /StdCF /StrF /StdCF /CF << /StdCF << /CFM /AESV3 /AuthEvent /DocOpen /Length 32 >> >> >>"
    content = _pdf(["A loan."])
    return content.replace(b"trailer\n<<", b"trailer\n<< /ID [(a) (a)] /Encrypt " + by, 1)


def test_pdf_that_cannot_be_used(tmp_path):
    path = tmp_path / "a.pdf"
    unknown = _pdf(["A loan."]).replace(b"/Length", b"/Filter /Foo /Length", 1)
    for content, key_word in ((b"no pdf", "PDF"), (_pdf([]), "scan"), (_encrypted(), "password"), (unknown, "PDF")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=key_word):
            read_documents(path)


def test_queries_beside_a_corpus_are_no_documents(tmp_path, capsys):
    folder = tmp_path / "all" / "lab"
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "1", "text": "a passage"}', encoding="utf-8")
    (folder / "queries.jsonl").write_text('{"_id": "2", "text": "a query"}', encoding="utf-8")
    (folder.parent / "more.txt").write_text("another text", encoding="utf-8")
    assert [document.id for document in read_documents(folder)] == ["1"]
    assert "queries.jsonl" in capsys.readouterr().err
    assert [document.id for document in read_documents(folder.parent)] == ["1", "more.txt"]
    assert holds_documents(folder)
    (folder / "qrels").mkdir()
    assert not holds_documents(folder)
    assert len(read_documents(folder / "queries.jsonl")) == 1
