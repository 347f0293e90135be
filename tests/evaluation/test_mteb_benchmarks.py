import subprocess
import sys

import pytest
from scipy.stats import spearmanr

from gaprune.errors import ConfigError, DataError, MissingExtraError, ModelError
from gaprune.evaluation.quality.benchmarks import FINANCE_TASKS, evaluate_benchmark, resolve_benchmark

TEXTS = ["red cat", "one two", "gold", "dog", "acid", "blue"]
OTHERS = ["cat", "three", "iron salt", "bird fish", "green", "five"]
SCORES = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]


@pytest.fixture
def mteb():
    return pytest.importorskip("mteb", reason="mteb is not installed")


@pytest.fixture
def small(mteb, monkeypatch):
    """Let mteb know two small tasks by the names Small and Search, without the network."""
    from datasets import Dataset, DatasetDict
    from mteb.mocks.mock_tasks import MockRetrievalTask, MockSTSTask

    class Small(MockSTSTask):
        metadata = MockSTSTask.metadata.model_copy(update={"name": "Small"})

        def load_data(self, num_proc=None, **kwargs):
            columns = {"sentence1": TEXTS, "sentence2": OTHERS, "score": SCORES}
            self.dataset, self.data_loaded = DatasetDict({"test": Dataset.from_dict(columns)}), True

    class Unreachable(MockSTSTask):
        def load_data(self, num_proc=None, **kwargs):
            raise ConnectionError("Couldn't reach the hub\nmore")

    known = {"Small": Small, "Search": MockRetrievalTask, "Unreachable": Unreachable}
    monkeypatch.setattr(mteb, "get_task", lambda name: known[name]())


def test_a_task_is_scored_beside_the_parent(small, model, new_model):
    parent = new_model(seed=1)
    found = evaluate_benchmark(model, "Small", parent=parent, batch_size=4)
    (score,) = found.scores

    def expected(which):
        near = which.similarity_pairwise(which.encode(TEXTS), which.encode(OTHERS))
        return spearmanr(SCORES, near).statistic

    assert score.value == pytest.approx(expected(model), abs=1e-5)
    assert score.parent == pytest.approx(expected(parent), abs=1e-5)
    assert score.parent != score.value
    assert (score.task, score.domain, score.kind, score.metric) == ("Small", "mteb", "STS", "cosine_spearman")
    assert score.details == {"test": pytest.approx(score.value)}
    assert score.fingerprint == "NA@NA"


def test_several_tasks_and_a_parent_evaluated_before(small, model, new_model):
    before = evaluate_benchmark(new_model(seed=1), "Small, Search")
    found = evaluate_benchmark(model, "Small,Search,Small", parent=before)
    assert [score.task for score in found.scores] == ["Small", "MockRetrievalTask"]
    assert [score.parent for score in found.scores] == [score.value for score in before.scores]
    with pytest.raises(ConfigError, match=r"not evaluated on the same tasks; they differ in mteb/MockRetrievalTask\."):
        evaluate_benchmark(model, "Small", parent=before)


def test_the_same_model_changed_is_scored_anew(small, new_model):
    model = new_model()
    before = evaluate_benchmark(model, "Small").mean()
    model[0].embedding.weight.data = new_model(seed=1)[0].embedding.weight.data
    assert evaluate_benchmark(model, "Small").mean() != before


def test_data_that_cannot_be_had_are_explained(small, model):
    text = r"The data of the mteb task MockSTSTask cannot be loaded: Couldn't reach the hub\nEvaluate once where"
    with pytest.raises(DataError, match=text):
        evaluate_benchmark(model, "Unreachable")


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.filterwarnings("ignore:An input array is nearly constant")
def test_a_task_without_a_score_is_explained(small, new_model):
    model = new_model()
    model[0].embedding.weight.data.fill_(1.0)
    with pytest.raises(
        ModelError, match=r"The mteb task Small gives no score for this model \(nan\)\.\nIts embeddings"
    ):
        evaluate_benchmark(model, "Small")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ChemTEB", "ChemTEB"),
        ("chemteb", "ChemTEB"),
        ("ChemTEB(v1)", "ChemTEB"),
        ("ChemTEB(latest)", "ChemTEB(v1.1)"),
        ("mteb(eng, v2)", "MTEB(eng, v2)"),
        ("jmteb", "JMTEB(v2)"),
    ],
)
def test_benchmarks_are_found_by_name_alias_and_near_name(mteb, name, found):
    domain, tasks = resolve_benchmark(name)
    assert domain == found
    assert [task.metadata.name for task in tasks] == [task.metadata.name for task in mteb.get_benchmark(found).tasks]


def test_finance_is_english_text_that_mteb_files_under_finance(mteb):
    domain, tasks = resolve_benchmark("Finance")
    assert domain == "finance"
    assert [task.metadata.name for task in tasks] == list(FINANCE_TASKS)
    for task in tasks:
        data = task.metadata
        assert "Financial" in data.domains
        assert data.languages == ["eng"]
        assert data.modalities == ["text"]
        assert data.is_public
        assert task.superseded_by is None


def test_tasks_are_found_by_name(mteb):
    domain, tasks = resolve_benchmark(" FiQA2018, SciFact ")
    assert (domain, [task.metadata.name for task in tasks]) == ("mteb", ["FiQA2018", "SciFact"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FiQA2017", r"benchmark: mteb \S+ has no benchmark or task named 'FiQA2017'\. Did you mean .*'FiQA2018'"),
        ("ChemTEBB", r"has no benchmark or task named 'ChemTEBB'\. Did you mean 'ChemTEB'.*\nName a benchmark"),
        ("FiQA2018,finence", r"has no benchmark or task named 'finence'\. Did you mean 'finance'"),
        (" , ", r"benchmark: the name is empty\.\nName a benchmark or tasks of mteb, or 'finance'\."),
    ],
)
def test_an_unknown_name_is_explained(mteb, name, text):
    with pytest.raises(ConfigError, match=text):
        resolve_benchmark(name)


def test_without_mteb_the_extra_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtraError, match=r"Evaluating mteb benchmarks needs .*\nInstall .*gaprune\[mteb\]"):
        evaluate_benchmark(model, "ChemTEB")


def test_mteb_is_not_imported_with_the_package():
    heavy = "[name for name in ('mteb', 'gaprune.evaluation.quality.metrics') if name in sys.modules]"
    code = f"import sys, gaprune.evaluation; print({heavy})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
