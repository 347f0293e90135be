"""Wrong input: exit code 2, the place and the way out on stderr, and nothing left behind."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gaprune.cli import app as program
from gaprune.errors import MissingExtraError
from gaprune.pipelines import prune as pipeline
from gaprune.pruning import measure as measuring


@pytest.fixture
def refused(gaprune, files, empty):
    """Call ``gaprune prune`` with wrong input; returns what it says after all that must hold has been checked."""

    def call(*arguments: object, model: object = files.model) -> str:
        done = gaprune("prune", model, *files.both, "--out", empty / "o", *arguments)
        assert done.code == 2, done.err
        assert done.out == ""
        assert "Traceback" not in done.err
        assert "Measuring" not in done.err
        assert not list(empty.iterdir()), "something is left behind"
        last, remedy = done.err.splitlines()[-2:]
        assert last.startswith("error: ")
        assert remedy.startswith("  → ")
        assert len(remedy) > len("  → ")
        return last.removeprefix("error: ")

    return call


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"query": "a", "positive": ""}', "the column 'positive' holds an empty text."),
        ('{"query": " ", "positive": "b"}', "the column 'query' holds an empty text."),
        ('{"query": "a", "positive": null}', "the cell in column 'positive' is empty."),
        ('{"query": "a", "positive": 3}', "the column 'positive' holds 3, not a text."),
        ('{"query": "a"', "is not valid JSON"),
        ('["a"]', "is a list, not an object."),
        ('{"text": "a", "label": 1}', "has no query: no column is named"),
    ],
)
@pytest.mark.parametrize("side", ["--domain", "--general"])
def test_lines_of_calibration_data(refused, tmp_path, side, line, problem):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"query": "a", "positive": "b"}\n\n' + line + "\n", encoding="utf-8")
    said = refused(side, path)
    assert said.startswith(f"{path}:3: ")
    assert problem in said


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--sparsity", "0"], "sparsity: 0 is not between 0 and 1"),
        (["--sparsity", "1"], "sparsity: 1 is not between 0 and 1"),
        (["--sparsity", "1.5"], "sparsity: 1.5 is not between 0 and 1"),
        (["--sparsity", "0.5,2"], "sparsity: 2 is not between 0 and 1"),
        (["--sparsity", "half"], "sparsity: 'half' is not a number"),
        (["--sparsity", "50%"], "write 0.5 for 50 %"),
        (["--sparsity", "nan"], "sparsity"),
        (["--targets", "encoder.layer.0.output"], "matches none of the model's 13 linear layers"),
        (["--targets", "re:("], "is not a regular expression"),
        (["--set", "ignore=mlps"], "ignore: 'mlps' matches none of the model's 13 linear layers. Did you mean 'mlp'"),
        (["--set", "ignore=mlp"], "takes away everything"),
        (["--criterion", "dia"], "Unknown criterion 'dia'. Did you mean 'dai'"),
        (["--criterion", "dai:general_shar=1"], "Did you mean 'general_share'"),
        (["--set", "seed"], "set: 'seed' is not NAME=VALUE."),
        (["--set", "sede=1"], "set: unknown option 'sede'. Did you mean 'seed'"),
        (["--set", "seed=one"], "seed: 'one' is not a whole number"),
        (["--set", "seed.first=1"], "set: seed.first=1 does not fit the option seed."),
        (["--set", "columns=query"], "set: columns=query does not fit the option columns."),
        (["--set", "seed=1", "--set", "seed=2"], "set: seed is given twice."),
        (["--set", "sparsity=0.3", "--sparsity", "0.4"], "sparsity: it is given twice"),
        (["--recover", "4", "--set", "recovery.distill=true"], "Unknown option 'distill'. Did you mean 'distil'"),
        (["--criterion", "dai:general_share=much"], "criterion dai: general_share: "),
        (["--granularity", "4:2"], "granularity: '4:2' is neither weight nor N:M"),
        (["--granularity", "2:4", "--sparsity", "0.6"], "removes 0.5 exactly"),
        (["--granularity", "3:7"], "granularity 3:7: encoder.layer.0.intermediate.dense has 32 inputs"),
        (["--set", "allocation=rows"], "allocation: "),
        (["--triplets", "99"], "triplets: 99 asked for, general.jsonl holds 6."),
        (["--triplets", "0"], "triplets: "),
        (["--set", "columns.query=frage"], "there is no column 'frage'"),
        (["--set", "columns.qery=frage"], "'qery' is not a part of a triplet. Did you mean 'query'"),
        (["--domain", "no-such-file.jsonl"], "no-such-file.jsonl: does not exist."),
        (["--tasks", "no-such-folder"], "no-such-folder: this folder does not exist."),
        (["--set", "dtype=int8"], "dtype: 'int8' is not a floating-point torch dtype."),
        (["--set", "max_length=100"], "max_length: 100 is outside 1 to 60"),
        (["--set", "temperature=0"], "temperature: "),
        (["--set", "negatives=explicit", "--general", "PAIRS"], "pairs.jsonl:1: has no negative"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options(refused, tmp_path, arguments, problem):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"query": "a", "positive": "b"}\n', encoding="utf-8")
    assert problem in refused(*(pairs if argument == "PAIRS" else argument for argument in arguments))


class TestModels:
    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite(self, refused, files, tmp_path, value):
        shutil.copytree(files.model, tmp_path / "model")
        weights = load_file(tmp_path / "model" / "model.safetensors")
        weights["encoder.layer.1.output.dense.weight"][2, 3] = value
        save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
        said = refused(model=tmp_path / "model")
        assert "encoder.layer.1.output.dense.weight: " in said
        assert "NaN or infinite" in said

    def test_no_model(self, refused, tmp_path):
        assert f"The folder {tmp_path} holds no model" in refused(model=tmp_path)
        assert "some-organisation/some-model cannot be loaded" in refused(model="some-organisation/some-model")


class TestOutputs:
    def test_an_unwritable_place(self, refused, empty, monkeypatch):
        monkeypatch.setattr("os.access", lambda path, _mode: path != empty)
        assert refused() == f"{empty / 'o'} cannot be made: {empty} is not writable."

    def test_an_existing_folder(self, gaprune, files, empty):
        (empty / "o").mkdir()
        done = gaprune("prune", files.model, *files.data, "--out", empty / "o")
        assert done.code == 2
        assert f"error: {empty / 'o'} exists.\n  → " in done.err
        assert not list((empty / "o").iterdir())

    def test_nowhere_to_write(self, gaprune, files):
        done = gaprune("prune", files.model, *files.data)
        assert done.code == 2
        assert "out: the result would be lost." in done.err

    def test_a_full_disk(self, gaprune, files, empty, monkeypatch):
        from sentence_transformers import SentenceTransformer

        def fail(*_args, **_kwargs):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(SentenceTransformer, "save_pretrained", fail)
        done = gaprune("prune", files.model, *files.data, "--out", empty / "o")
        assert done.code == 2
        assert "No space left on device" in done.err
        assert not list(empty.iterdir())

    @pytest.mark.parametrize(
        "arguments",
        [
            ["evaluate", "MODEL", "--tasks", "TASKS", "--out", "EMPTY/file/r.json"],
            ["evaluate", "MODEL", "--tasks", "TASKS", "--out", "EMPTY"],
            ["compare", "MODEL", "--criteria", "magnitude", "--tasks", "TASKS", "--out", "EMPTY/file"],
            ["prune", "MODEL", "--criterion", "magnitude", "--set", "scores=EMPTY/file/s"],
            ["prune", "MODEL", "--criterion", "magnitude", "--out", "EMPTY/o", "--set", "scores=EMPTY/o/s"],
            ["data", "sample", "DOMAIN", "--model", "MODEL", "--count", "2", "--out", "EMPTY/file/s.jsonl"],
            ["data", "sample", "DOMAIN", "--model", "MODEL", "--count", "2", "--out", "EMPTY/file"],
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_are_checked_before_a_model_is_loaded(self, gaprune, files, empty, monkeypatch, arguments):
        def fail(*_args, **_kwargs):
            raise AssertionError("loaded too early")

        for loader in (
            "pipelines.arguments.load_model",
            "models.exported_module.open_model",
            "models.load.load_model",
        ):
            monkeypatch.setattr(f"gaprune.{loader}", fail)
        (empty / "file").write_text("mine")
        words = {"MODEL": files.model, "TASKS": files.tasks, "DOMAIN": files.domain}
        done = gaprune(*(words.get(each, each.replace("EMPTY", str(empty))) for each in arguments))
        assert done.code == 2, done.err
        assert "\n  → " in done.err
        assert [path.name for path in empty.iterdir()] == ["file"]
        assert (empty / "file").read_text() == "mine"


class TestOtherCommands:
    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["evaluate", "MODEL"], "tasks, benchmark: give exactly one of them."),
            (["evaluate", "MODEL", "--tasks", "EMPTY"], "the folder holds no task."),
            (["evaluate", "EMPTY", "--tasks", "TASKS"], "holds no model"),
            (["inspect", "EMPTY"], "holds no model"),
            (
                ["evaluate", "MODEL", "--benchmark", "finance", "--query-prompt", "q"],
                "mteb takes the prompts of the model",
            ),
            (["evaluate", "MODEL", "--tasks", "TASKS", "--dtype", "int8"], "dtype: 'int8' is not a floating-point"),
            (["evaluate", "MODEL", "--tasks", "TASKS", "--index", "parent"], "index: the parent is not named."),
            (["inspect", "MODEL", "--dtype", "int8"], "dtype: 'int8' is not a floating-point"),
            (["inspect", "MODEL", "--revision", "v1"], "revision: it belongs to the one model on the hub"),
            (["compare", "MODEL", "--criteria", "dai"], "tasks: there is none to compare on."),
            (["compare", "--criteria", "magnitude", "--tasks", "TASKS"], "model: no parent model is named."),
            (
                ["compare", "MODEL", "--criteria", "dai", "--tasks", "TASKS", "--seeds", "2", "--domain", "DOMAIN"],
                "seeds: all 2 would measure",
            ),
            (["compare", "MODEL", "--criteria", "dai,magnitde", "--tasks", "TASKS"], "Unknown criterion 'magnitde'"),
            (["compare", "MODEL", "--criteria", ",", "--tasks", "TASKS"], "criteria, seeds: at least one of each"),
            (["data", "check", "EMPTY"], "the folder holds no triplet file"),
            (["data", "check", "DOMAIN", "--set", "columns.query"], "set: 'columns.query' is not NAME=VALUE."),
            (
                ["data", "sample", "DOMAIN", "--model", "MODEL", "--count", "99", "--out", "EMPTY/s.jsonl"],
                "sample: 99 asked for, domain.jsonl holds 7.",
            ),
        ],
        ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
    )
    def test_problems(self, gaprune, files, empty, arguments, problem):
        words = {"MODEL": files.model, "TASKS": files.tasks, "DOMAIN": files.domain}
        done = gaprune(*(words.get(each, each.replace("EMPTY", str(empty))) for each in arguments))
        assert done.code == 2
        assert problem in done.err
        assert "\n  → " in done.err
        assert done.out == ""
        assert not list(empty.iterdir())

    @pytest.mark.parametrize(
        "arguments", [["prune", "--no-such-option"], ["no-such-command"], ["prune", "--triplets", "one"], ["evaluate"]]
    )
    def test_usage(self, gaprune, arguments):
        done = gaprune(*arguments)
        assert done.code == 2
        assert "Usage: gaprune" in done.err
        assert done.out == ""


class TestNearNames:
    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            ("prun", "No such command 'prun'. Did you mean 'prune'?"),
            ("check", "No such command 'check'. Did you mean 'data check'?"),
            ("data chek", "No such command 'chek'. Did you mean 'check'?"),
            ("xyz", "No such command 'xyz'.\n"),
            ("prune --sparsty 0.5", "No such option: --sparsty. Did you mean '--sparsity'?"),
            ("bench --set a=b", "No such option: --set.\n"),
            ("recover m --steps", "'--steps' requires an argument"),
            ("shrink --held-out 0.2", "write --set held_out=VALUE"),
            ("prune --tempreature 1", "Did you mean '--set temperature=VALUE'?"),
            ("evaluate m --index parnt", "Did you mean 'parent'?"),
            ("shrink --runtime onx", "Did you mean 'onnx'?"),
        ],
    )
    def test_are_named(self, gaprune, words, problem):
        done = gaprune(*words.split())
        assert done.code == 2
        assert problem in done.err

    def test_several_mistakes_are_named_together(self, gaprune, tmp_path):
        recipe = tmp_path / "r.yaml"
        recipe.write_text("sparsty: 0.5\nseed: 1\ntarget: all\ntemprature: 2\n", encoding="utf-8")
        done = gaprune("prune", "--recipe", recipe)
        assert f"{recipe}:1: unknown option 'sparsty'" in done.err
        assert f"{recipe}:4: unknown option 'temprature'" in done.err
        done = gaprune("prune", "--set", "sede=1", "--set", "temprature=1")
        assert "'sede'" in done.err
        assert "'temprature'" in done.err
        done = gaprune("prune", "--sparsity", "half", "--set", "seed=one")
        assert "sparsity: 'half' is not a number" in done.err
        assert "seed: 'one' is not a whole number" in done.err


class TestTheProgram:
    def test_an_error_text_is_printed_as_it_is(self, gaprune, files, monkeypatch):
        """Brackets are no markup, and long lines stay whole."""
        long = "a [bold]name[/bold] " * 30

        def fail(*_args, **_kwargs):
            raise MissingExtraError(long, "mteb")

        monkeypatch.setattr(pipeline, "prune_many", fail)
        done = gaprune("prune", files.model, "--set", "scores=s")
        assert done.code == 2
        assert done.err == (
            f"error: {long} needs the optional dependencies of the extra 'mteb', which are not installed.\n"
            "  → Install them with: pip install 'gaprune[mteb]' (in a clone: '.[mteb]')\n"
        )

    def test_an_interrupt(self, gaprune, files, empty, monkeypatch):
        def interrupt(*_args, **_kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(measuring, "measure", interrupt)
        done = gaprune("prune", files.model, *files.data, "--out", empty / "o")
        assert done.code == 130
        assert done.err.splitlines()[-1] == "Interrupted."
        assert not list(empty.iterdir())
        (empty / "kept").mkdir()
        done = gaprune("prune", files.model, *files.data, "--out", empty / "o", "--checkpoint", empty / "kept")
        assert done.code == 130
        assert re.search(rf"^Interrupted\. .*--resume.*{empty / 'kept'}", done.err, re.MULTILINE)

    def test_a_fault_of_ours_is_not_dressed_up(self, monkeypatch, files):
        def fail(*_args, **_kwargs):
            raise ZeroDivisionError

        monkeypatch.setattr(pipeline, "prune_many", fail)
        monkeypatch.setattr("sys.argv", ["gaprune", "prune", str(files.model), "--set", "scores=s"])
        with pytest.raises(ZeroDivisionError):
            program.main()
