"""Triplets from documents: every kind, negatives that are none of the positive's, and a report that adds up."""

import json
from collections import Counter

import pytest

from gaprune.data.documents.from_texts import triplets_from_texts
from gaprune.data.read import read_triplets
from gaprune.data.triplets import write_triplets
from gaprune.data.words import normalise, shared_words, words
from gaprune.errors import ConfigError, DataError
from gaprune.util.progress import quiet

BOOK = """\
# Banking in Elbonia

Every bank keeps a reserve with the treasury. A bank that fails to do so pays a fine.

## Lending to farmers

A farmer borrows against the harvest of potatoes. The loan falls due when potatoes are sold.

Farmers repay the loan in autumn. Late farmers owe interest on the potatoes.

## Summary

The rules of the treasury protect depositors. They are revised each year by parliament.
"""
NOTE = """\
Shipping fees

A ship pays a fee to the harbour. The fee depends on the tonnage of the ship and is due on arrival.
"""
ROWS = [
    {
        "_id": "r1",
        "title": "Treasury bills",
        "text": "The treasury sells bills to a bank each week. Bills fall due soon.",
    },
    {
        "_id": "r2",
        "title": "Potato prices",
        "text": "Potatoes cost more when the harvest fails. Farmers then owe less.",
    },
    {"_id": "r3", "title": "Leer", "text": "  "},
    {
        "_id": "r4",
        "title": "Potato prices",
        "text": "Nobody fixes prices of potatoes; the market of each town does that.",
    },
    {
        "_id": "r5",
        "title": "Copy",
        "text": "A ship pays a fee to the harbour! The fee depends on the tonnage of the ship.",
    },
    {
        "_id": "r6",
        "title": "Ärger",
        "text": "Die Bank erhebt Gebühren für große Schiffe. Die Gebühren sind im Hafen fällig.",
    },
    {"_id": "r7", "title": "Short", "text": "Too short."},
]


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "book.md").write_text(BOOK, encoding="utf-8")
    (folder / "note.txt").write_text(NOTE, encoding="utf-8")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return folder


def make(source, **options):
    with quiet():
        return triplets_from_texts(source, **options)


def by_kind(made, kind):
    return {item.query: item for item, own in zip(made.triplets, made.kinds, strict=True) if own == kind}


def test_titles_and_headings(documents):
    made = make(documents, kinds=["title", "heading"])
    titles, headings = by_kind(made, "title"), by_kind(made, "heading")
    assert list(titles) == ["Banking in Elbonia", "Shipping fees", "Treasury bills", "Ärger"]
    assert titles["Banking in Elbonia"].positive.startswith("Every bank keeps a reserve")
    assert titles["Banking in Elbonia"].source == f"{documents / 'book.md'}:3"
    assert titles["Shipping fees"].source == f"{documents / 'note.txt'}:3"
    assert titles["Treasury bills"].source == f"{documents / 'rows.jsonl'}:1"
    assert list(headings) == ["Lending to farmers"]
    assert headings["Lending to farmers"].positive.startswith("A farmer borrows")
    assert headings["Lending to farmers"].source == f"{documents / 'book.md'}:7"


def test_sentences_and_cloze(documents):
    made = make(documents, kinds=["sentence", "cloze"])
    sentences, clozes = by_kind(made, "sentence"), by_kind(made, "cloze")
    assert len(sentences) == len([item for item in sentences.values() if item.query in item.positive]) > 4
    assert clozes
    for query, item in clozes.items():
        assert query not in item.positive
        assert len(words(item.positive)) >= 5
        assert not any(query in negative for negative in item.negatives)
    assert not sentences.keys() & clozes.keys()


def test_a_cloze_is_its_passage_without_the_sentence(tmp_path):
    text = "Alpha banks lend money to farmers. Beta banks collect the taxes of towns. Gamma banks insure old ships."
    (tmp_path / "a.txt").write_text(text)
    made = make(tmp_path / "a.txt", kinds=["cloze"], negatives=0)
    (item,) = made.triplets
    left = [part for part in text.replace(". ", ".|").split("|") if part != item.query]
    assert item.positive == " ".join(left)
    assert len(left) == 2


def test_a_negative_answers_nothing(documents):
    made = make(documents, negatives=2)
    for item, kind in zip(made.triplets, made.kinds, strict=True):
        assert len(set(item.negatives)) == 2
        for negative in item.negatives:
            shared = shared_words(frozenset(words(negative)), frozenset(words(item.positive)))
            assert shared < 0.8, (item, negative)
            assert normalise(negative) != normalise(item.positive)
            if kind == "title" and "Elbonia" in item.query:
                assert negative not in BOOK.replace("\n", " ")
            if kind == "heading":
                assert "repay the loan" not in negative  # stands under the same heading


def test_negatives_are_the_best_of_bm25_that_may_be_taken(documents):
    made = by_kind(make(documents, kinds=["title"]), "title")
    assert made["Treasury bills"].negatives[0].startswith("The rules of the treasury")


def test_embeddings_find_negatives_too(tmp_path, compass):
    texts = {"n": "north query", "m": "north passage", "e": "east up", "s": "south up"}
    rows = [{"_id": key, "text": text} for key, text in texts.items()]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "q.jsonl").write_text('{"query": "north", "document": "n"}\n{"query": "east", "document": "e"}')
    made = make(tmp_path / "a.jsonl", queries=tmp_path / "q.jsonl", model=compass, shortest=2, negatives=2)
    assert made.triplets[0].negatives == ("north passage", "east up")
    # north is as near to east as south is: of equal ones the first stands first
    assert made.triplets[1].negatives == ("north query", "north passage")


def test_near_duplicates_generic_and_repeated_queries_are_left_out_and_counted(documents):
    made = make(documents)
    report = made.report
    assert report.documents == 9
    assert report.dropped["document: empty"] == 1
    assert report.dropped["passage: too short"] == 1
    assert report.dropped["passage: near-duplicate of an earlier one"] == 1
    assert report.dropped["heading: query too generic"] == 1
    assert report.dropped["title: the same query for several passages"] == 2
    assert not [item for item in made.triplets if item.query in ("Summary", "Potato prices", "Copy", "Leer")]
    assert dict(Counter(made.kinds)) == dict(report.made)
    assert report.spare == 0
    assert report.as_dict() == json.loads(json.dumps(report.as_dict()))
    assert ("made: heading", "1") in report.rows()


def test_a_query_of_common_words_is_generic(tmp_path):
    rows = [
        {"title": f"The bank {n}", "text": f"The bank number{n} of town{n} lends to ship{n} and farm{n} and mill{n}"}
        for n in range(30)
    ]
    rows.append({"title": "The mint", "text": "The mint strikes new coins of silver for the whole bank sector."})
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = make(tmp_path, kinds=["title"])
    assert [item.query for item in made.triplets] == ["The mint"]
    assert made.report.dropped == {"title: query too generic": 30}


def test_long_texts_are_cut_at_sentences(tmp_path):
    sentence = "Clause {} of this contract binds the {}th bank to lend to farmer {}."
    text = " ".join(sentence.format(n, n + 100, n + 200) for n in range(40))
    (tmp_path / "a.txt").write_text(text)
    made = make(tmp_path / "a.txt", kinds=["sentence"], longest=60, negatives=0)
    assert made.report.passages == 10  # of four sentences, 52 words
    assert all(40 <= len(words(item.positive)) <= 60 for item in made.triplets)
    assert all(item.positive in text and item.positive.endswith(".") for item in made.triplets)


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv"])
def test_queries_of_ones_own(documents, tmp_path, name):
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text(
            "question,document\nwho repays the loan in autumn?,book.md\nwhat sells to the bank?,r1\n", encoding="utf-8"
        )
    else:
        path.write_text(
            '{"query": "who repays the loan in autumn?", "document": "book.md"}\n'
            '{"query": "what does a ship pay to the harbour?", "positive": "Ships pay a duty."}\n',
            encoding="utf-8",
        )
    made = make(documents, queries=path)
    assert set(made.kinds) == {"query"}
    first, second = made.triplets
    assert first.positive.startswith("Farmers repay the loan")
    assert first.negatives[0] not in BOOK.replace("\n", " ")
    assert first.source == f"{path}:{1 if name == 'q.jsonl' else 2}"
    if name == "q.jsonl":
        assert second.positive == "Ships pay a duty."
        assert second.negatives[0].startswith("A ship pays a fee")
    both = make(documents, queries=path, kinds=["query", "title"])
    assert set(both.kinds) == {"query", "title"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": "a", "document": "bok.md"}', r":1: there is no document 'bok.md'\. Did you mean 'book.md'\?"),
        ('\n{"query": "a"}', r":2: has no positive or document"),
        ('{"document": "r1"}', r":1: has no query: .*The columns are 'document'"),
        ('{"query": " ", "document": "r1"}', r":1: the column 'query' holds an empty text"),
        ('{"query": "a", "document": "r3"}', r":1: the document 'r3' has no passage"),
        ("", r"holds no query"),
    ],
)
def test_queries_that_cannot_be_used(documents, tmp_path, line, message):
    path = tmp_path / "q.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        make(documents, queries=path)
    assert str(caught.value).startswith(str(path))


def test_the_same_seed_gives_the_same(documents):
    first, again = make(documents, seed=3), make(documents, seed=3)
    assert first.triplets.fingerprint == again.triplets.fingerprint
    assert any(make(documents, seed=seed).triplets.fingerprint != first.triplets.fingerprint for seed in range(3))


def test_count(documents):
    everything = make(documents, seed=1)
    made = make(documents, count=5, seed=1)
    assert len(made.triplets) == sum(made.report.made.values()) == 5
    assert set(made.triplets) < set(everything.triplets)
    assert made.report.spare > 0
    others = {make(documents, count=5, seed=seed).triplets.fingerprint for seed in range(4)}
    assert len(others) > 1
    with pytest.raises(ConfigError, match=r"^count: 999 asked for, and \d+ can be made") as caught:
        make(documents, count=999)
    assert "near-duplicate" in caught.value.problem


def test_round_trip(documents, tmp_path):
    made = make(documents, negatives=2)
    path = write_triplets(made.triplets, tmp_path / "made.jsonl", notes=made.notes())
    again = read_triplets(path, require_negatives=True)
    assert again.fingerprint == made.triplets.fingerprint
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [(line["source"], line["kind"]) for line in lines] == [
        (item.source, kind) for item, kind in zip(made.triplets, made.kinds, strict=True)
    ]


def test_pairs(documents):
    made = make(documents, negatives=0)
    assert not any(item.negatives for item in made.triplets)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["titel"]}, r"^kinds: 'titel' is unknown\. Did you mean 'title'\?"),
        ({"kinds": ["query"]}, r"^kinds, queries: .* belong together"),
        ({"negatives": -1}, r"^negatives: -1 is below 0"),
        ({"count": 0}, r"^count: 0 is below 1"),
        ({"shortest": 20, "longest": 10}, r"^longest: 10 is below shortest, 20"),
    ],
)
def test_options_are_checked_before_files(options, message):
    with pytest.raises(ConfigError, match=message):
        make("nowhere", **options)


def test_faults_of_files_before_the_model_is_loaded(documents):
    with pytest.raises(DataError, match="does not exist"):
        make(documents / "nothing.md", model="no/such-model")
    with pytest.raises(ConfigError, match=r"^count: 999"):
        make(documents, count=999, model="no/such-model")


@pytest.mark.parametrize("text", ["", "\n \n", "# Only a heading\n"])
def test_empty_documents(tmp_path, text):
    (tmp_path / "a.md").write_text(text)
    with pytest.raises(DataError, match="none of the 1 documents has a passage of 10 to 150 words"):
        make(tmp_path)


def test_files_that_are_not_read_are_named_by_their_formats(documents, capsys):
    for name in ("a.docx", "b.docx", "Thumbs.db", ".hidden.docx", "sub/photo.PNG", "README"):
        (documents / name).parent.mkdir(exist_ok=True)
        (documents / name).write_bytes(b"not read")
    triplets_from_texts(documents)
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "left out" in each]
    assert line.endswith(": 1 .db, 2 .docx, 1 .png, 1 without an ending.")


def test_nothing_to_make(tmp_path):
    (tmp_path / "a.txt").write_text("One sentence of this text is long enough to be a passage")
    with pytest.raises(DataError, match=r"no triplet can be made.*cloze: no two sentences to separate \(1\)"):
        make(tmp_path)


def test_one_document_has_no_negatives_for_its_title(tmp_path):
    (tmp_path / "a.md").write_text(BOOK)
    made = make(tmp_path, kinds=["title", "sentence"])
    assert made.report.dropped["title: too few passages are fit as negatives"] == 1
    assert set(made.kinds) == {"sentence"}
