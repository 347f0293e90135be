"""The registry: names, suffixes, constants, strangers, and the texts of its errors."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import gaprune
from gaprune.criteria import registry
from gaprune.criteria.base import Calibrated, UpdatingCriterion, WeightCriterion
from gaprune.criteria.registry import available, create, register
from gaprune.errors import ConfigError

OURS = ["activation", "dai", "dai-paper", "fisher", "magnitude", "obd", "random", "sparsegpt", "taylor", "wanda"]


@pytest.fixture
def sandbox(monkeypatch):
    """A registry of its own, with nothing announced."""
    monkeypatch.setattr(registry, "_registered", dict(registry.available()))
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [])
    registry._import_announced.cache_clear()
    yield monkeypatch
    registry._import_announced.cache_clear()


class Sum(WeightCriterion):
    """A stranger's criterion."""

    summary = "w + offset"
    source = "a test"
    offset: float = 1.0

    def importance(self, inputs):
        return inputs.weight + self.offset


class Other(Sum):
    """Another one."""


@dataclass
class Point:
    """What importlib gives for an entry point."""

    name: str
    value: object

    def load(self):
        return self.value


def announce(sandbox, *points):
    groups = {"gaprune.criteria": list(points)}
    sandbox.setattr(registry, "entry_points", lambda *, group: groups.get(group, []))


def test_names_are_sorted_and_complete(sandbox):
    assert list(available()) == OURS


@pytest.mark.parametrize("suffix", ["domain", "general", "mix"])
def test_calibrated_criteria_answer_to_three_names(suffix):
    calibrated = [name for name, kind in available().items() if issubclass(kind, Calibrated)]
    assert calibrated == ["activation", "fisher", "obd", "sparsegpt", "taylor", "wanda"]
    for name in calibrated:
        criterion = create(f"{name}-{suffix}")
        assert type(criterion) is available()[name]
        assert criterion == create(name, {"calibration": suffix})
        assert bool(criterion.weight_needs.domain) == (suffix != "general")
        assert bool(criterion.weight_needs.general) == (suffix != "domain")


def test_a_suffix_goes_with_other_constants_and_with_its_own_again():
    assert create("sparsegpt-mix", {"block": 4}) == create("sparsegpt", {"block": 4, "calibration": "mix"})
    saved = create("obd-general").model_dump()
    assert create("obd-general", saved).calibration == "general"


def test_a_suffix_that_its_options_contradict_is_refused():
    with pytest.raises(ConfigError) as caught:
        create("obd-general", {"calibration": "mix"})
    assert (
        caught.value.problem
        == "criterion obd-general: its name and its options set the same constant to different values."
    )


def test_options_given_are_not_changed():
    options = {"block": 4}
    create("sparsegpt-mix", options)
    assert options == {"block": 4}


@pytest.mark.parametrize("name", ["magnitude-domain", "dai-general", "dai-paper-mix", "obd-", "obd-both", "-mix", ""])
def test_no_other_suffixes(name):
    with pytest.raises(ConfigError, match=f"^Unknown criterion {name!r}"):
        create(name)


def test_unknown_name_suggests_near_ones_and_lists_all(sandbox):
    with pytest.raises(ConfigError) as caught:
        create("magnitud")
    assert caught.value.problem == "Unknown criterion 'magnitud'. Did you mean 'magnitude'?"
    assert caught.value.remedy == f"Known: {', '.join(OURS)}; some take -domain, -general or -mix after their name."


def test_unknown_constant_suggests_near_ones_and_lists_all():
    with pytest.raises(ConfigError) as caught:
        create("dai", {"temperin": 0.5})
    assert caught.value.problem == (
        "criterion dai: temperin: Extra inputs are not permitted. Did you mean 'tempering'?"
    )
    assert (
        caught.value.remedy
        == "Its constants: general_share, tempering, swaps, centred, reconstruction_aware, alpha, preservation."
    )


def test_constant_of_a_criterion_without_any():
    with pytest.raises(ConfigError, match="Its constants: none"):
        create("magnitude", {"alpha": 1})


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("dai", {"general_share": -1}, "general_share: -1 should be greater than or equal to 0"),
        ("dai", {"tempering": 1.1}, "tempering: 1.1 should be less than or equal to 1"),
        ("dai", {"alpha": 1}, "alpha: 1 should be less than 1"),
        ("dai", {"alpha": "much"}, "alpha: 'much' is not a number"),
        ("dai-paper", {"beta": float("nan")}, "beta: nan is not a finite number"),
        ("dai-paper", {"alignment": "row"}, "alignment: 'row' should be 'weight' or 'matrix'"),
        ("sparsegpt", {"damping": 0}, "damping: 0 should be greater than 0"),
        ("sparsegpt", {"block": 0}, "block: 0 should be greater than or equal to 1"),
        ("wanda", {"calibration": "both"}, "calibration: 'both' should be 'domain', 'general' or 'mix'"),
    ],
)
def test_wrong_values_are_named_and_suggest_nothing(name, options, text):
    with pytest.raises(ConfigError, match=re.escape(f"criterion {name}: {text}")) as caught:
        create(name, options)
    assert "Did you mean" not in str(caught.value)


def test_constants_given_as_text_are_read():
    assert create("dai", {"general_share": "0.3"}).general_share == 0.3
    assert create("sparsegpt", {"block": 64.0}).block == 64


def test_constants_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        create("dai").general_share = 0.5


def test_register_makes_a_name_known(sandbox, evidence):
    assert register("sum")(Sum) is Sum
    assert available()["sum"] is Sum
    assert torch.equal(create("sum", {"offset": 2}).importance(evidence), evidence.weight + 2)
    register("sum")(Sum)  # again is no clash: modules are reloaded


@pytest.mark.parametrize("stranger", [int, lambda evidence: evidence.weight, Sum()])
def test_register_refuses_what_is_no_criterion(sandbox, stranger):
    with pytest.raises(TypeError, match="registered as criterion 'x' but is not a subclass of Criterion"):
        register("x")(stranger)
    assert "x" not in available()


def test_register_refuses_a_name_that_is_taken(sandbox):
    register("sum")(Sum)
    with pytest.raises(ValueError, match="the criterion name 'sum' belongs to Sum"):
        register("sum")(Other)
    with pytest.raises(ValueError, match="the criterion name 'obd' belongs to OptimalBrainDamage"):
        register("obd")(Sum)
    assert available()["sum"] is Sum


FIRST = """
from gaprune.criteria.base import WeightCriterion
from gaprune.criteria.registry import register
class Stranger(WeightCriterion):
    summary = source = "a test"
    def importance(self, inputs):
        return inputs.weight
register("obd")(Stranger)
"""


def test_a_stranger_who_comes_first_cannot_take_our_names():
    """Our own criteria are imported late, but a name of theirs is refused to others at once."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=False)
    assert "the criterion name 'obd' belongs to OptimalBrainDamage" in done.stderr


def test_entry_points_are_loaded(sandbox):
    announce(sandbox, Point("sum", Sum), Point("other", Other))
    assert {"sum", "other"} <= set(available())
    assert create("other", {"offset": 3}).offset == 3
    assert list(available()) == sorted([*OURS, "sum", "other"])


def test_an_entry_point_that_is_no_criterion_or_takes_our_name_is_refused(sandbox):
    announce(sandbox, Point("bad", dict))
    with pytest.raises(TypeError, match="'bad'"):
        available()
    announce(sandbox, Point("dai", Sum))
    with pytest.raises(ValueError, match="'dai' belongs to DomainAlignmentImportance"):
        available()


def test_a_criterion_without_a_formula_cannot_be_made():
    class Empty(WeightCriterion):
        summary = source = ""

    with pytest.raises(TypeError, match="abstract"):
        Empty()


def test_only_sparsegpt_updates_weights():
    assert [name for name, kind in available().items() if issubclass(kind, UpdatingCriterion)] == ["sparsegpt"]


ALONE = """
import sys, types
package = types.ModuleType("gaprune")
package.__path__ = [{path!r}]
sys.modules["gaprune"] = package
import gaprune.{name}
print(*sorted({{module.split(".")[1] for module in sys.modules if module.startswith("gaprune.")}}))
"""


@pytest.mark.parametrize(
    ("name", "later"),
    [
        ("statistics", {"criteria", "pruning", "recovery"}),
        ("criteria", {"pruning", "recovery", "evaluation", "pipelines"}),
    ],
)
def test_package_imports_alone_and_nothing_that_comes_later(name, later):
    code = ALONE.format(path=str(Path(gaprune.__file__).parent), name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert name in loaded
    assert not loaded & later
