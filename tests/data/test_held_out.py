"""Held-out queries: no passage on both sides, and a task that every evaluation reads."""

import gzip

import pytest

from gaprune.data.documents.read import holds_documents
from gaprune.data.held_out import hold_out_queries, planned_text, write_retrieval_task
from gaprune.data.triplets import Triplet, Triplets
from gaprune.data.words import normalise
from gaprune.errors import DataError
from gaprune.evaluation.quality.discovery import find_tasks

ITEMS = Triplets([Triplet(f"query {n}", f"passage {n // 3}", (f"other {n}",)) for n in range(60)], "items")


@pytest.mark.parametrize("seed", range(4))
def test_no_passage_is_on_both_sides(seed):
    training, held_out = hold_out_queries(ITEMS, share=0.2, most=100, seed=seed)
    assert not {item.positive for item in training} & {item.positive for item in held_out}
    assert sorted(item.query for item in (*training, *held_out)) == sorted(item.query for item in ITEMS)
    assert len(held_out) == 12


@pytest.mark.parametrize("seed", range(4))
def test_spellings_of_one_query_are_on_one_side(seed):
    items = [Triplet(query, f"{query} {n}") for n in range(30) for query in (f"What is {n}?", f"what is {n}")]
    training, held_out = hold_out_queries(Triplets(items, "items"), share=0.2, most=100, seed=seed)
    assert len(held_out) == 12
    assert not {normalise(item.query) for item in training} & {normalise(item.query) for item in held_out}


def test_the_draw_depends_on_the_seed_alone():
    first, second, other = (hold_out_queries(ITEMS, share=0.2, most=100, seed=seed)[1] for seed in (0, 0, 1))
    assert first == second != other


def test_at_most_so_many_are_held_out():
    training, held_out = hold_out_queries(ITEMS, share=0.5, most=7, seed=0)
    assert len(held_out) == 6, "three queries share each passage"
    assert not {item.positive for item in training} & {item.positive for item in held_out}


def test_no_query_and_no_passage_is_on_both_sides_however_they_are_connected():
    links = Triplets([Triplet(f"q{n // 2}", f"p{(n + 1) // 2}") for n in range(20) if n != 9], "chains")
    training, held_out = hold_out_queries(links, share=0.3, most=100, seed=0)
    assert not {item.query for item in training} & {item.query for item in held_out}
    assert not {item.positive for item in training} & {item.positive for item in held_out}
    assert len(training) + len(held_out) == len(links)


@pytest.mark.parametrize("seed", range(20))
def test_what_many_share_is_trained_on(seed):
    """A standard answer to 40 of 100 questions: a tenth is held out all the same, and nothing is lost."""
    items = Triplets([Triplet(f"q{n}", "standard" if n < 40 else f"p{n}") for n in range(100)], "tickets")
    training, held_out = hold_out_queries(items, share=0.1, most=100, seed=seed)
    assert (len(training), len(held_out)) == (90, 10)
    assert "standard" not in {item.positive for item in held_out}


def test_where_no_group_is_small_the_smallest_is_held_out():
    items = Triplets([Triplet(f"q{n}", f"p{n % 5 // 3}") for n in range(20)], "two answers")
    training, held_out = hold_out_queries(items, share=0.1, most=100, seed=0)
    assert (len(training), len(held_out)) == (12, 8)


def test_one_passage_for_all_queries_is_refused():
    with pytest.raises(DataError, match="share queries or positives"):
        hold_out_queries(Triplets([Triplet("a", "p"), Triplet("b", "p")], "x"), share=0.5, most=9, seed=0)


def test_the_task_is_read_as_any_other(tmp_path):
    _, held_out = hold_out_queries(ITEMS, share=0.2, most=100, seed=0)
    write_retrieval_task(tmp_path / "domain" / "HeldOut", held_out, (item.positive for item in ITEMS))
    (task,) = find_tasks(tmp_path)
    assert (task.name, task.domain) == ("HeldOut", "domain")
    assert set(task.queries.values()) == {item.query for item in held_out}
    relevant = {task.queries[query]: {task.documents[each] for each in found} for query, found in task.grades.items()}
    assert relevant == {item.query: {item.positive} for item in held_out}
    assert set(task.documents.values()) >= {item.positive for item in ITEMS} | {item.negatives[0] for item in held_out}


class TestKind:
    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("a.txt", "A text.", True),
            ("a.md", "# A text", True),
            ("a.jsonl", '{"text": "A text."}\n', True),
            ("a.jsonl", '{"query": "a", "positive": "b"}\n', False),
            ("a.jsonl", '{"Anchor": "a", "pos": ["b"]}\n', False),
            ("a.jsonl", '["a query", "a positive"]\n', False),
            ("a.jsonl", '{"set": ["a", "b"]}\n', False),
            ("a.jsonl", '{"frage": "a", "antwort": "b"}\n', False),
            ("a.csv", "query,positive\na,b\n", False),
        ],
    )
    def test_files(self, tmp_path, name, content, expected):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert holds_documents(tmp_path / name) is expected
        assert holds_documents(tmp_path) is expected

    def test_other_files_mapped_columns_and_published_layouts(self, tmp_path):
        (tmp_path / "a.md").write_text("# A text", encoding="utf-8")
        (tmp_path / "a.png").write_bytes(b"no text")
        assert holds_documents(tmp_path)
        corpus = tmp_path / "beir" / "corpus.jsonl"
        corpus.parent.mkdir()
        corpus.write_text('{"_id": "1", "text": "A text."}\n', encoding="utf-8")
        (corpus.parent / "qrels.tsv").write_text("q\t1\t1\n", encoding="utf-8")
        assert not holds_documents(corpus.parent)
        assert holds_documents(corpus)
        assert not holds_documents(corpus, {"query": "text"})

    def test_a_hub_id_is_a_data_set_of_triplets(self):
        assert not holds_documents("somebody/triplets")

    def test_the_card_of_a_data_set_is_no_document(self, tmp_path):
        (tmp_path / "README.md").write_text("# A data set", encoding="utf-8")
        assert holds_documents(tmp_path)
        (tmp_path / "train.jsonl").write_text('{"query": "a", "positive": "b"}\n', encoding="utf-8")
        assert not holds_documents(tmp_path)

    def test_compressed_documents(self, tmp_path):
        (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"A text."))
        (tmp_path / "b.txt").write_text("A text.", encoding="utf-8")
        assert holds_documents(tmp_path)
        assert holds_documents(tmp_path / "a.txt.gz")

    def test_a_folder_of_both_is_refused(self, tmp_path):
        (tmp_path / "a.txt").write_text("A text.", encoding="utf-8")
        (tmp_path / "b.csv").write_text("query,positive\na,b\n", encoding="utf-8")
        with pytest.raises(DataError, match=r"both documents .* and triplets"):
            holds_documents(tmp_path)


def test_what_shrink_would_hold_out_is_said():
    def planned(count, positive="p{}"):
        return planned_text(Triplets([Triplet(f"q{each}", positive.format(each)) for each in range(count)], "x"))

    assert "7 queries" in planned(72)
    assert "500 triplets" in planned(72)
    assert "needs no tasks: it holds out 50 queries" in planned(500)
    assert "cannot hold out" in planned(500, "the same")
