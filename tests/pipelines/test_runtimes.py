"""Where speeds are measured: in the runtime in which the parent is fastest, of those that can run it."""

from __future__ import annotations

import pytest
from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.config.shrink import ShrinkOptions
from gaprune.data.samples import sample_triplets
from gaprune.errors import GapruneError, MissingExtraError, OutputError
from gaprune.evaluation.cost.latency import Speed
from gaprune.export.comparison import Floor
from gaprune.models.exported import ExportedModel
from gaprune.pipelines import export as exporting
from gaprune.pipelines import runtimes, shrink
from gaprune.pipelines.meet_target import meet_target
from gaprune.pipelines.runtimes import RuntimeChoice, choose_runtime, measuring
from gaprune.pipelines.shrink_checks import exported_folder

SMALL = {
    "domain": sample_triplets("finance"),
    "speedup": 1.2,
    "prune": {"round_to": 4, "triplets": 4},
    "recover": {"tokens": 500, "steps": 1, "batch_size": 4},
}


def in_torch(*args, runtime, **options):
    """Prune for a speed in PyTorch instead of in ONNX, for which writing every shape takes seconds."""
    assert runtime == "onnx"
    meet_target(*args, runtime="torch", **options)


@pytest.fixture
def parent(folder_of):
    return SentenceTransformer(str(folder_of("bert")), device="cpu")


@pytest.fixture
def timed(monkeypatch):
    """Let the parent be so many times faster in int8 in a runtime, and every child as fast as its parent."""

    def times(**speedups):
        def measured(child, parent, **_options):
            is_beside = isinstance(child, ExportedModel) and not isinstance(parent, ExportedModel)
            value = speedups[child.format] if is_beside else 1.2
            return Speed(latency=value, throughput=value, milliseconds=(1, 1), texts_per_second=(1, 1))

        monkeypatch.setattr(runtimes, "measure_speed", measured)

    return times


@pytest.mark.parametrize(
    ("speedups", "chosen"),
    [
        ({"onnx": 2.0, "openvino": 3.0}, "openvino"),
        ({"onnx": 3.0, "openvino": 2.0}, "onnx"),
        ({"onnx": 0.9, "openvino": 0.5}, "torch"),
    ],
)
def test_the_fastest_is_chosen_and_said(parent, timed, tmp_path, speedups, chosen):
    timed(**speedups)
    choose_runtime(parent, None, tmp_path)
    found = RuntimeChoice.read(tmp_path)
    assert (found.chosen, found.speedups) == (chosen, speedups)
    assert (found.export_seconds > 0) == (chosen != "torch")
    assert f"fastest here in {'PyTorch' if chosen == 'torch' else chosen}" in found.sentence()
    assert [each.name for each in tmp_path.iterdir()] == ["runtime.json"]


def test_what_is_given_is_taken(parent, timed, tmp_path):
    timed(onnx=0.5)
    for given in ("onnx", "torch"):
        choose_runtime(parent, given, tmp_path)
        found = RuntimeChoice.read(tmp_path)
        assert (found.chosen, found.sentence()) == (given, "")


def test_one_that_cannot_run_the_parent_is_named_and_left_out(parent, timed, tmp_path, monkeypatch, capsys):
    timed(onnx=2.0)

    def export(folder, *, to, **options):
        if to == "openvino":
            raise GapruneError("an operator is unknown", "Leave it.")
        return gaprune.export_model(folder, to=to, **options)

    monkeypatch.setattr(runtimes, "export_model", export)
    choose_runtime(parent, None, tmp_path)
    assert RuntimeChoice.read(tmp_path).chosen == "onnx"
    assert "Speeds are not measured in openvino in int8. an operator is unknown" in capsys.readouterr().err
    with pytest.raises(GapruneError, match="an operator is unknown"):
        choose_runtime(parent, "openvino", tmp_path)


def test_one_in_which_int8_costs_too_much_is_left_out(parent, timed, tmp_path, monkeypatch, capsys):
    timed(onnx=2.0, openvino=1.5)
    monkeypatch.setattr(exporting, "INT8_FLOOR", Floor(1.0, 1.0))
    choose_runtime(parent, None, tmp_path)
    assert RuntimeChoice.read(tmp_path).chosen == "torch"
    assert (
        "Speeds are not measured in onnx in int8. The export is too far from the original." in capsys.readouterr().err
    )
    choose_runtime(parent, "onnx", tmp_path)
    assert RuntimeChoice.read(tmp_path).chosen == "onnx", "what is asked for is taken"


def test_what_is_not_installed_is_not_tried(parent, tmp_path, monkeypatch):
    def missing(runtime):
        raise MissingExtraError(f"{runtime} is not installed", "Install it.")

    monkeypatch.setattr(runtimes, "check_runtime", missing)
    choose_runtime(parent, None, tmp_path)
    assert RuntimeChoice.read(tmp_path).chosen == "torch"


def test_a_model_is_timed_beside_its_parent_in_a_runtime(parent, tmp_path):
    with measuring(parent, "onnx", tmp_path) as measure:
        found = measure(parent, 2, texts=2)
        assert min(*found.milliseconds, *found.texts_per_second) > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["small", "small/", "./small"])
def test_the_model_for_a_runtime_lies_beside_the_model(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ShrinkOptions.build({"speedup": 2, "runtime": "onnx", "out": out})
    assert exported_folder(asked) == tmp_path / "small-onnx"


def test_a_model_whose_int8_form_fails_is_finished(folder_of, timed, tmp_path, monkeypatch, capsys):
    timed(onnx=2.0)

    def full(*_args, **_options):
        raise OutputError("No space left on device", "Make room.")

    monkeypatch.setattr(shrink, "meet_target", in_torch)
    monkeypatch.setattr(shrink, "export_model", full)
    found = gaprune.shrink(folder_of("bert"), out=tmp_path / "small", runtime="onnx", **SMALL)
    assert found.exported is None
    assert SentenceTransformer(str(tmp_path / "small"), device="cpu")
    assert [each.name for each in tmp_path.iterdir()] == ["small"]
    said = capsys.readouterr().err
    assert f"gaprune export {tmp_path / 'small'} --to onnx --int8 --out {tmp_path / 'small-onnx'}" in said
    assert "No space left" in said


def test_shrink_measures_there_and_writes_a_model_for_it(folder_of, timed, tmp_path, monkeypatch, capsys):
    timed(onnx=2.0, openvino=1.5)
    monkeypatch.setattr(shrink, "meet_target", in_torch)
    found = gaprune.shrink(folder_of("bert"), out=tmp_path / "small", **SMALL)
    assert found.provenance.shrink.runtime == "onnx"
    assert found.exported == tmp_path / "small-onnx"
    assert gaprune.ExportedModel(found.exported).format == "onnx"
    said = capsys.readouterr().err
    assert "fastest here in onnx in int8 (times as fast as in PyTorch: onnx in int8 2.0, openvino in int8 1.5)" in said
    assert "(as measured in onnx in int8)" in said
