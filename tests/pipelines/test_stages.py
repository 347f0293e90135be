"""Stages of a long run: made once for the same inputs, made again after a change, whole or not at all."""

import pytest

from gaprune.errors import OutputError
from gaprune.pipelines.stages import Stages, fingerprint_of


@pytest.fixture
def run(tmp_path):
    """A run of three stages, which returns the names of those that were made."""

    def run(first=1, second=1, fails=None):
        made, stages = [], Stages(tmp_path / "stages")

        def make(name):
            def fill(folder):
                (folder / "a").write_text(name)
                if fails == name:
                    raise OSError("No space left on device")
                made.append(name)

            return fill

        for name, inputs in (("one", {"n": first}), ("two", {"n": second}), ("three", {})):
            folder = stages.once(name, inputs, make(name))
            assert (folder / "a").read_text() == name
        return made

    return run


def test_a_finished_stage_is_not_made_twice(run):
    assert run() == ["one", "two", "three"]
    assert run() == []


def test_a_change_makes_the_stage_and_all_later_ones_again(run):
    run()
    assert run(second=2) == ["two", "three"]
    assert run(first=2, second=2) == ["one", "two", "three"]


def test_a_stage_that_fails_leaves_nothing_and_the_next_run_continues_there(run, tmp_path):
    with pytest.raises(OutputError, match=r"'two'.*No space left"):
        run(fails="two")
    assert [each.name for each in (tmp_path / "stages").iterdir()] == ["one"]
    assert run() == ["two", "three"]


def test_minutes_are_those_of_the_run_that_made_a_stage(tmp_path):
    first = Stages(tmp_path)
    first.once("a", {}, lambda folder: None)
    second = Stages(tmp_path)
    second.once("a", {}, lambda folder: None)
    assert second.minutes("a") == first.minutes("a") > 0
    second.remove()
    assert not tmp_path.exists()


def test_fingerprints_are_of_contents_and_names(tmp_path):
    for folder, name, text in (("a", "x", "1"), ("b", "x", "1"), ("c", "x", "2"), ("d", "y", "1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    found = {name: fingerprint_of(tmp_path / name) for name in "abcd"}
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 3
    assert fingerprint_of("somebody/model") == "somebody/model"


def test_the_folder_of_a_stage_under_way_depends_on_all_that_the_stage_depends_on(tmp_path):
    def scratch(first, own):
        stages = Stages(tmp_path)
        stages.once("a", {"n": first}, lambda folder: None)
        return stages.scratch("training", {"n": own})

    assert scratch(1, 1) == scratch(1, 1)
    assert len({scratch(1, 1), scratch(1, 2), scratch(2, 1)}) == 3


def test_stages_of_a_run_that_is_refused_at_once_are_not_kept(tmp_path):
    folder = tmp_path / "stages"
    for left in (False, True):  # what another run began remains
        if left:
            Stages(folder).once("a", {}, lambda folder: None)
        stages = Stages(folder)
        assert stages.has("a", {}) == left
        stages.once("a", {}, lambda folder: None)
        stages.discard()
        assert folder.exists() == left
