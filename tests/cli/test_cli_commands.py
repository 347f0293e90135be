"""Every command does its work, prints what it should and nothing where it should not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

import gaprune as package
from gaprune.cli.options import GROUPS
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.shrink import ShrinkOptions
from gaprune.criteria.registry import available
from gaprune.data.read import read_triplets
from gaprune.evaluation.cost.workload import Workload
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.models.names import model_name
from gaprune.pipelines import inspect as inspecting


class TestPrune:
    def test_tables(self, gaprune, files, empty):
        done = gaprune(
            "prune", files.model, *files.both, "--sparsity", 0.4, "--tasks", files.tasks, "--out", empty / "o"
        )
        assert done.code == 0
        assert "40.01 % of the 6,144 selected weights are zero" in done.out
        assert "of all 21,152 parameters of the model" in done.out
        assert "Search" in done.out
        assert f"Written to {empty / 'o'}; open it with" in done.out
        assert "neither smaller nor faster" in done.out
        assert "--width, --hidden, --depth or --vocabulary" in done.out
        assert "Measuring domain" in done.err
        assert "Measuring general" in done.err
        assert SentenceTransformer(str(empty / "o"), device="cpu").encode("cash").shape == (32,)

    def test_json_alone(self, gaprune, files, empty):
        out = empty / "o"
        done = gaprune("prune", files.model, *files.data, "--sparsity", "0.3,0.6", "--json", "--out", out)
        assert done.code == 0
        assert [each["sparsity"]["asked"] for each in done.json] == [0.3, 0.6]
        for each in done.json:
            folder = out / f"sparsity-{each['sparsity']['asked']}"
            assert json.loads((folder / "gaprune.json").read_text(encoding="utf-8")) == each
        assert "Measuring" not in done.err

    def test_quiet(self, gaprune, files, empty):
        done = gaprune("prune", files.model, *files.data, "--quiet", "--out", empty / "o", "--tasks", files.tasks)
        assert (done.code, done.out) == (0, "")
        assert "Measuring" not in done.err
        assert "Evaluating" not in done.err
        assert (empty / "o" / "modules.json").is_file()

    def test_scores_alone_and_their_reuse(self, gaprune, files, empty):
        scores = empty / "scores.safetensors"
        first = gaprune("prune", files.model, *files.data, "--set", f"scores={scores}")
        assert first.code == 0
        assert [path.name for path in empty.iterdir()] == ["scores.safetensors"]
        second = gaprune(
            "prune", files.model, *files.data, "--set", f"scores={scores}", "--out", empty / "o", "--json"
        )
        assert second.code == 0
        assert (empty / "o").is_dir()
        third = gaprune("prune", files.model, *files.data, "--set", f"scores={scores}")
        assert f"The importances were read from {scores}." in third.out
        assert "were read from" not in first.out
        assert "domain: 7 triplets of domain.jsonl: " in first.out
        other = gaprune("prune", files.model, *files.data, "--set", f"scores={scores}", "--set", "seed=1")
        assert other.code == 2
        assert "different: seed" in other.err

    def test_several_sparsities(self, gaprune, files, empty):
        done = gaprune(
            "prune",
            files.model,
            "--criterion",
            "random",
            "--sparsity",
            "0.3, 0.5",
            "--out",
            empty,
            "-q",
            "--overwrite",
            "--set",
            "device=cpu",
        )
        assert done.code == 0
        assert sorted(path.name for path in empty.iterdir()) == ["sparsity-0.3", "sparsity-0.5"]

    def test_pattern(self, gaprune, files, empty):
        done = gaprune(
            "prune",
            files.model,
            "--criterion",
            "magnitude",
            "--granularity",
            "2:4",
            "--out",
            empty / "o",
            "--json",
            "--targets",
            "mlp, attention",
            "--set",
            "device=cpu",
        )
        assert done.json[0]["sparsity"]["of_selected"] == 0.5
        assert done.json[0]["method"]["pruning"]["granularity"] == "2:4"

    def test_columns(self, gaprune, files, empty, tmp_path):
        rows = [json.loads(line) for line in files.domain.read_text(encoding="utf-8").splitlines()]
        renamed = [{"frage": row["query"], "antwort": row["positive"], "neg": row["negatives"]} for row in rows]
        for name in ("domain", "general"):
            text = "".join(json.dumps(row) + "\n" for row in renamed)
            (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
        done = gaprune(
            "prune",
            files.model,
            "--domain",
            tmp_path / "domain.jsonl",
            "--general",
            tmp_path / "general.jsonl",
            "--set",
            "columns.query=frage",
            "--set",
            "columns.positive=antwort",
            "--set",
            "general_columns.query=frage",
            "--set",
            "general_columns.positive=antwort",
            "--set",
            f"scores={empty / 's'}",
            "--json",
            "--set",
            "device=cpu",
        )
        assert done.code == 0
        assert done.json[0]["calibration"]["domain"]["triplets"] == 7


def read_evaluation(saved):
    return Evaluation(tuple(Score(**score) for score in saved["scores"]))


class TestEvaluate:
    def test_table_json_and_file_agree(self, gaprune, files, empty):
        out = empty / "deep" / "result.json"
        table = gaprune("evaluate", files.model, "--tasks", files.tasks, "--device", "cpu")
        plain = gaprune("evaluate", files.model, "--tasks", files.tasks, "--device", "cpu", "--json", "--out", out)
        assert table.code == plain.code == 0
        assert "Evaluating" not in plain.err
        found = read_evaluation(plain.json)
        assert plain.json == json.loads(out.read_text(encoding="utf-8"))
        for score in found.scores:
            assert score.task in table.out
            assert f"{score.value:.4f}" in table.out

    def test_beside_a_parent(self, gaprune, files, empty):
        package.prune(files.model, criterion="magnitude", sparsity=0.8, targets="all", out=empty / "o", device="cpu")
        done = gaprune(
            "evaluate", empty / "o", "--tasks", files.tasks, "--parent", files.model, "--json", "--device", "cpu"
        )
        dense = gaprune("evaluate", files.model, "--tasks", files.tasks, "--json", "--device", "cpu")
        found, own = read_evaluation(done.json), read_evaluation(dense.json)
        assert [score.parent for score in found.scores] == [score.value for score in own.scores]
        assert any(score.change for score in found.scores)

    def test_what_is_kept_only_in_a_file_is_said(self, gaprune, files, empty):
        """A model of ours has a card, which an evaluation leaves alone; others have none that could be meant."""
        package.prune(files.model, criterion="magnitude", sparsity=0.5, targets="all", out=empty / "o", device="cpu")
        card = (empty / "o" / "README.md").read_bytes()
        rest = ("--tasks", files.tasks, "--device", "cpu")
        assert "--out FILE" in gaprune("evaluate", empty / "o", *rest).err
        assert (empty / "o" / "README.md").read_bytes() == card
        assert "--out FILE" not in gaprune("evaluate", empty / "o", *rest, "--out", empty / "r.json").err
        assert "--out FILE" not in gaprune("evaluate", files.model, *rest).err

    def test_quiet(self, gaprune, files, empty):
        done = gaprune(
            "evaluate", files.model, "--tasks", files.tasks, "-q", "--out", empty / "r.json", "--device", "cpu"
        )
        assert (done.code, done.out) == (0, "")
        assert "Evaluating" not in done.err
        assert (empty / "r.json").is_file()


class TestCompare:
    def test_table_and_files(self, gaprune, files, empty):
        done = gaprune(
            "compare",
            "--no-reconstruct",
            files.model,
            "--criteria",
            "dai, magnitude,random",
            *files.data,
            "--tasks",
            files.tasks,
            "--sparsity",
            "0.5,0.7",
            "--seeds",
            2,
            "--triplets",
            4,
            "--out",
            empty / "c",
        )
        assert done.code == 0
        assert "Mean score by domain" in done.out
        assert f"Written to {empty / 'c'}" in done.err
        markdown = (empty / "c" / "comparison.md").read_text(encoding="utf-8")
        said = json.loads((empty / "c" / "comparison.json").read_text(encoding="utf-8"))
        rows, _, warnings = markdown.partition("\n\n")
        assert len(rows.splitlines()) == 2 + 1 + 2 * 3
        assert "evaluation task Similar" in warnings
        assert len(said["cells"]) == 2 * (2 + 1 + 2)
        assert said["settings"]["triplets"] == [4]

    def test_json_alone(self, gaprune, files):
        done = gaprune(
            "compare",
            files.model,
            "--no-reconstruct",
            "--criteria",
            "magnitude",
            "--tasks",
            files.tasks,
            "--set",
            "device=cpu",
            "--json",
        )
        assert [cell["criterion"] for cell in done.json["cells"]] == ["magnitude"]

    def test_quiet(self, gaprune, files, empty):
        done = gaprune(
            "compare",
            files.model,
            "--criteria",
            "magnitude",
            "--tasks",
            files.tasks,
            "--set",
            "device=cpu",
            "--quiet",
            "--out",
            empty,
        )
        assert (done.code, done.out) == (0, "")
        assert sorted(path.name for path in empty.iterdir()) == ["comparison.json", "comparison.md", "report.html"]
        page = (empty / "report.html").read_bytes()
        (empty / "report.html").unlink()
        assert gaprune("report", empty).code == 0
        assert (empty / "report.html").read_bytes() == page
        (empty / "gaprune.json").touch()
        done = gaprune("compare", files.model, "--criteria", "magnitude", "--tasks", files.tasks, "--out", empty)
        assert done.code == 2
        assert "holds a model" in done.err

    def test_everything_from_a_recipe(self, gaprune, files, tmp_path):
        (tmp_path / "r.yaml").write_text(
            f"model: {files.model}\ntasks: {files.tasks}\ndevice: cpu\n", encoding="utf-8"
        )
        done = gaprune(
            "compare", "--no-reconstruct", "--criteria", "magnitude", "--recipe", tmp_path / "r.yaml", "--json"
        )
        assert done.code == 0, done.err
        assert done.json["settings"]["model"] == files.model.name

    @pytest.mark.parametrize(
        ("line", "remedy"),
        [
            ("out: there", "--out of the command"),
            ("criterion: obd", "--criteria"),
            ("scores: s.safetensors", "Leave it out"),
            ("overwrite: true", "no model is written"),
        ],
    )
    def test_what_means_nothing_in_a_recipe(self, gaprune, files, tmp_path, line, remedy):
        (tmp_path / "r.yaml").write_text(f"{line}\n", encoding="utf-8")
        arguments = [
            "compare",
            files.model,
            "--criteria",
            "dai",
            "--tasks",
            files.tasks,
            "--recipe",
            tmp_path / "r.yaml",
        ]
        done = gaprune(*arguments)
        assert done.code == 2
        option = line.partition(":")[0]
        assert f"error: {option}: a comparison does not have this option." in done.err
        assert remedy in done.err


class TestInspect:
    def test_a_model_that_was_retrained(self, gaprune, files, empty):
        result = package.prune(files.model, criterion="magnitude", sparsity=0.5, out=empty / "o", device="cpu")
        assert "gaprune.json says" not in gaprune("inspect", empty / "o").out
        for name in result.change.keep:
            result.model[0].model.get_submodule(name).weight.data.fill_(1.0)
        result.model.save_pretrained(str(empty / "o"), create_model_card=False)
        done = gaprune("inspect", empty / "o", "--device", "cpu", "--dtype", "float32")
        assert done.code == 0
        assert "by magnitude (mlp): 0.00 % of the selected weights are zero, " in done.out
        assert "gaprune.json says 50.00 % of the selected weights: the weights have changed" in done.out

    def test_a_provenance_of_another_model(self, gaprune, files, empty):
        package.prune(files.model, criterion="magnitude", sparsity=0.5, out=empty / "o", device="cpu")
        path = empty / "o" / "gaprune.json"
        path.write_text(path.read_text(encoding="utf-8").replace("layer.1.", "layer.7."), encoding="utf-8")
        done = gaprune("inspect", empty / "o")
        assert done.code == 0
        assert "does not have the layers that it names" in done.out

    def test_nothing_is_claimed_of_a_model_on_the_hub(self, gaprune, files, monkeypatch):
        genuine = inspecting.load_model
        monkeypatch.setattr(inspecting, "load_model", lambda _name, **options: genuine(files.model, device="cpu"))
        done = gaprune("inspect", "some-organisation/some-model", "--revision", "v1")
        assert done.code == 0
        assert "did not make" not in done.out
        assert "a model on the hub" in done.out

    def test_a_model_of_ours(self, gaprune, files, empty):
        package.prune(files.model, criterion="magnitude", sparsity=0.5, out=empty / "o", device="cpu")
        done = gaprune("inspect", empty / "o")
        assert done.code == 0
        assert (
            f"Pruned from {model_name(files.model)} by magnitude (mlp): 50.00 % of the selected weights are zero"
            in done.out
        )
        assert "encoder.layer.0.intermediate.dense" in done.out
        plain = gaprune("inspect", empty / "o", "--json").json
        assert plain["provenance"]["sparsity"]["removed"] == 3072
        assert sum(matrix["zeros"] for matrix in plain["footprint"]["linear_layers"]) == 3072

    def test_any_other_model(self, gaprune, files):
        done = gaprune("inspect", files.model)
        assert done.code == 0
        assert "GAPrune did not make this model" in done.out
        assert gaprune("inspect", files.model, "--json").json["provenance"] is None


def test_criteria(gaprune):
    plain = gaprune("criteria", "--json")
    assert list(plain.json) == list(available())
    assert plain.json["dai-paper"]["options"] == {"alpha": 0.2, "beta": 1.0, "gamma": 0.5, "alignment": "weight"}
    done = gaprune("criteria")
    assert done.code == 0
    assert all(name in done.out for name in available())


class TestData:
    def test_check(self, gaprune, files):
        done = gaprune(
            "data", "check", files.domain, "--general", files.general, "--tasks", files.tasks, "--model", files.model
        )
        assert done.code == 1
        assert "misleading" in done.err
        assert done.out.count("problem: ") == done.out.count("in the evaluation task")
        assert "triplets" in done.out
        plain = gaprune("data", "check", files.domain, "--json")
        assert plain.json["sets"][0]["name"] == "domain.jsonl"
        assert plain.json["unit"] == "words"

    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            ([{"query": "a", "positive": "b", "negative": "B."}], "1 triplet has its positive among its negatives"),
            ([{"query": each, "positive": "b"} for each in "acd"], "no triplet has a negative"),
        ],
    )
    @pytest.mark.parametrize("flags", [[], ["--json"]])
    def test_unusable_data(self, gaprune, tmp_path, lines, problem, flags):
        path = tmp_path / "bad.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        done = gaprune("data", "check", path, *flags)
        assert done.code == 2
        assert "error: the data cannot be used as they are: domain (bad.jsonl): " in done.err
        assert problem in done.err
        assert problem in (done.json["unusable"][0] if flags else done.out)

    def test_what_spoils_nothing_is_a_warning(self, gaprune, tmp_path):
        path = tmp_path / "again.jsonl"
        lines = [{"query": f"q{number}", "positive": f"p{number}"} for number in range(30)]
        lines.append({"query": "q1", "positive": "another"})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        done = gaprune("data", "check", path)
        assert done.code == 0
        assert "warning: domain (again.jsonl): 1 triplet has the query of an earlier triplet" in done.out
        assert "problem: " not in done.out
        assert "would hold out 3 queries" in done.out, "few queries are a remark, too"

    def test_problems_are_printed(self, gaprune, tmp_path, files):
        path = tmp_path / "twice.jsonl"
        path.write_text(files.domain.read_text(encoding="utf-8") * 2, encoding="utf-8")
        done = gaprune("data", "check", path)
        assert done.code == 1
        assert "problem: domain (twice.jsonl): 7 triplets are duplicates" in done.out
        assert "misleading" in done.err
        options = ("--criterion", "wanda", "--sparsity", 0.5, "--no-reconstruct", "--set", "device=cpu")
        pruned = gaprune("prune", files.model, "--domain", path, *options, "--out", tmp_path / "out")
        assert pruned.code == 0
        assert "7 triplets are duplicates" in pruned.err

    @pytest.mark.parametrize("quiet", [True, False])
    def test_sample(self, gaprune, files, empty, quiet):
        arguments = ["data", "sample", files.domain, "--model", files.model, "--count", 3, "--out", empty / "s.jsonl"]
        done = gaprune(*arguments, *(["--quiet"] if quiet else []))
        assert (done.code, done.out) == (0, "")
        assert ("3 of 7 triplets written" in done.err) is not quiet
        assert len(read_triplets(empty / "s.jsonl")) == 3
        again = gaprune(*arguments)
        assert again.code == 2
        assert "s.jsonl exists" in again.err
        assert gaprune(*arguments, "--overwrite", "-q").code == 0


class TestNegativesOfPrune:
    @pytest.fixture
    def pairs(self, tmp_path, files):
        rows = [json.loads(line) for line in files.domain.read_text(encoding="utf-8").splitlines()]
        path = tmp_path / "pairs.jsonl"
        text = "".join(json.dumps({"query": row["query"], "positive": row["positive"]}) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
        return path

    def test_mined_ones_are_named(self, gaprune, files, pairs, empty):
        done = gaprune(
            "prune", files.model, "--domain", pairs, "--set", "mine_negatives=2", "--criterion", "obd",
            "--out", empty / "o",
            "--set", "device=cpu", "--no-reconstruct",
        )  # fmt: skip
        assert done.code == 0, done.err
        mined = "7 with 2 negatives each, mined with the parent"
        assert f"domain: 7 triplets of pairs.jsonl: {mined}." in done.out
        assert f"| domain | pairs.jsonl | 7 | {mined} |" in (empty / "o" / "README.md").read_text()

    def test_data_that_have_negatives(self, gaprune, files, empty, tmp_path):
        path = tmp_path / "all.jsonl"
        path.write_text('{"query": "cash", "positive": "the cash", "negative": "a dog"}\n' * 2, encoding="utf-8")
        done = gaprune(
            "prune", files.model, "--domain", path, "--set", "mine_negatives=2", "--criterion", "obd",
            "--out", empty / "o",
            "--set", "device=cpu", "--no-reconstruct",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "domain: 2 triplets of all.jsonl: 2 with negatives of their own." in done.out
        assert "every domain triplet has negatives of its own, so none were mined." in done.err

    def test_faults_of_the_data_before_the_model_is_loaded(self, gaprune, pairs, empty):
        done = gaprune(
            "prune", "no/such-model", "--domain", pairs, "--set", "columns.query=frage", "--out", empty / "o"
        )
        assert done.code == 2
        assert f"error: {pairs}:1: there is no column 'frage'" in done.err


class TestUnusedData:
    def test_data_that_the_criterion_does_not_look_at_are_named(self, gaprune, files, empty):
        done = gaprune(
            "prune", files.model, *files.data, "--out", empty / "o", "--criterion", "magnitude", "--no-reconstruct"
        )
        assert done.code == 0
        for kind in ("domain", "general"):
            assert f"does not use {kind} data; --{kind} has no effect" in done.err

    def test_nothing_is_said_of_data_that_were_read(self, gaprune, files, empty):
        done = gaprune("prune", files.model, *files.both, "--out", empty / "o")
        assert (done.code, "does not look at" in done.err) == (0, False)


class TestHelp:
    @pytest.mark.parametrize(
        "command",
        [[], ["prune"], ["evaluate"], ["compare"], ["inspect"], ["criteria"], ["demo"], ["data"], ["data", "check"],
         ["data", "sample"], ["data", "from-texts"], ["recover"], ["bench"], ["export"], ["unpack"], ["options"]],
        ids=" ".join,
    )  # fmt: skip
    def test_every_command_explains_itself(self, gaprune, command):
        done = gaprune(*command, "--help")
        assert done.code == 0
        assert "Usage: gaprune" in done.out

    @pytest.mark.parametrize(("command", "most"), [("prune", 25), ("compare", 25), ("recover", 20), ("shrink", 10)])
    def test_few_options_have_a_flag_and_all_are_listed(self, gaprune, command, most):
        listed = gaprune("options", command, "--json").json
        text = gaprune(command, "--help").out
        flags = [each["flag"] for each in listed if each["flag"]]
        assert len(flags) <= most
        assert len(set(re.findall(r"^│ \*? *(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}) == len(flags)
        assert all(f"{flag} " in text for flag in flags)
        kind = {"recover": RecoveryOptions, "shrink": ShrinkOptions}.get(command, package.Recipe)
        own = {"model"} if command != "compare" else {"model", "triplets", "out"}
        assert kind.model_fields.keys() - own <= {each["name"] for each in listed}

    def test_documents_are_checked_as_shrink_reads_them(self, gaprune, tmp_path):
        for number in range(20):
            words = [f"word{(7 * number + place * place) % 60}" for place in range(30)]
            text = f"# {' '.join(words[3:8])}\n\n{' '.join(words[:15])}. {' '.join(words[15:])}."
            (tmp_path / f"{number}.md").write_text(text, encoding="utf-8")
        (tmp_path / "empty.md").write_text("", encoding="utf-8")
        done = gaprune("data", "check", tmp_path)
        assert done.code == 1
        assert "dropped document: empty" in done.out
        assert "held-out" in done.out
        found = gaprune("data", "check", tmp_path, "--json").json
        assert found["documents"]["documents"] == 21
        assert found["sets"][0]["triplets"] == sum(found["documents"]["made"].values())
        refused = gaprune("data", "check", tmp_path, "--set", "split=test")
        assert (refused.code, "split: " in refused.err) == (2, True)

    def test_a_group_lists_the_commands_in_it(self, gaprune):
        listed = gaprune("options", "data", "--json").json
        assert set(listed) == {"data check", "data sample", "data from-texts"}
        assert listed["data check"] == gaprune("options", "data", "check", "--json").json

    def test_other_commands_have_few_options(self, gaprune):
        listed = gaprune("options", "--json").json
        counts = {
            name: sum(each["flag"] is not None for each in found)
            for name, found in listed.items()
            if name not in {"prune", "compare", "recover", "shrink"}
        }
        assert {"evaluate", "bench", "export", "data check", "data from-texts"} <= counts.keys()
        assert max(counts.values()) <= 15

    @pytest.mark.parametrize(
        ("command", "options"), [("prune", package.Recipe), ("recover", RecoveryOptions), ("bench", Workload)]
    )
    def test_defaults_are_told(self, gaprune, command, options):
        listed = {each["name"]: each for each in gaprune("options", command, "--json").json}
        for name, field in options.model_fields.items():
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                assert f"{field.description.removesuffix('.')}; default: {field.default}." == listed[name]["help"]

    def test_groups_come_in_order(self, gaprune):
        text = gaprune("prune", "--help").out
        places = [text.index(f"─ {group} ─") for group in GROUPS if f"─ {group} ─" in text]
        assert places == sorted(places)
        assert len(places) == 6

    def test_options_as_a_table(self, gaprune):
        done = gaprune("options", "recover")
        assert done.code == 0
        assert "similarity_weight" in done.out
        assert "gaprune recover" in done.out

    def test_options_of_no_command(self, gaprune):
        done = gaprune("options", "prun")
        assert done.code == 2
        assert "Unknown command 'prun'. Did you mean 'prune'" in done.err

    def test_version(self, gaprune):
        done = gaprune("--version")
        assert (done.code, done.out) == (0, f"gaprune {version('gaprune')}\n")

    def test_no_arguments(self, gaprune):
        done = gaprune()
        assert done.code == 2
        assert "Usage: gaprune" in done.out + done.err


def test_the_program_itself(files, tmp_path):
    """One real process: the entry point that pip installs."""
    program = Path(sys.executable).with_name("gaprune")
    environment = os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"query": "a"}\n', encoding="utf-8")
    done = subprocess.run(
        [program, "prune", files.model, "--domain", bad, "--general", files.general, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert f"error: {bad}:1: " in done.stderr
    assert "\n  → " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


class TestUnits:
    def test_a_smaller_model_from_the_command_line(self, gaprune, files, empty):
        out = empty / "o"
        done = gaprune(
            "prune", files.model, *files.both, "--width", 0.5, "--depth", 1, "--set", "round_to=8", "--out", out,
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "1 of 2 layers, 24 of 48 FFN neurons per layer removed: " in done.out
        assert "Reconstruction was " in done.out
        assert "neither smaller nor faster" not in done.out
        seen = gaprune("inspect", out)
        assert seen.out.startswith(f"Pruned from {model_name(files.model)}")
        assert "1 of 2 layers, 24 of 48 FFN neurons per layer were removed; " in " ".join(seen.out.split())
        assert re.search(r"encoder\.layer\.\*\.intermediate\.dense\W+mlp\W+24 x 32\W+1\W+768\b", seen.out)
        assert "0.00 %" not in seen.out
        small = json.loads(gaprune("inspect", out, "--json").out)
        assert small["footprint"]["parameters"] == small["provenance"]["sparsity"]["parameters"]

    def test_a_target_says_what_it_chose(self, gaprune, files, empty):
        done = gaprune(
            "prune", files.model, *files.both, "--target", "speedup=1.5", "--set", "round_to=8", "--no-reconstruct",
            "--out", empty / "o",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert re.search(r"Best of \d+ configurations .*1\.5", done.out)
        assert "times fewer operations per token in the linear layers" in done.out

    def test_criteria_say_what_they_score(self, gaprune):
        assert "Importance of neurons, head groups and layers" in gaprune("criteria").out
        listed = json.loads(gaprune("criteria", "--json").out)
        assert "loss" in listed["dai"]["layers"]
        assert listed["obd"]["units"] is None


class TestFromTexts:
    @pytest.fixture
    def documents(self, tmp_path):
        path = tmp_path / "corpus.jsonl"
        rules = {
            "Reserves": "Every bank keeps a reserve with the treasury. Parliament fixes the share each year.",
            "Fines": "A late bank pays a fine to the treasury. Its board has to publish the amount.",
            "Loans": "Farmers borrow against the harvest of a year. They repay when the treasury buys grain.",
            "Harbours": "A ship pays a fee to the harbour on arrival. Its tonnage decides how much.",
        }
        rows = [{"_id": title, "title": f"{title} of the bank", "text": text} for title, text in rules.items()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def test_table_and_file(self, gaprune, documents, empty):
        arguments = ["data", "from-texts", documents, "--out", empty / "t.jsonl", "--kinds", "title, cloze"]
        done = gaprune(*arguments, "--min-words", 5)
        assert done.code == 0, done.err
        assert "made: title" in done.out
        assert "8 triplets written to" in done.err
        assert len(read_triplets(empty / "t.jsonl", require_negatives=True)) == 8
        again = gaprune(*arguments)
        assert again.code == 2
        assert "t.jsonl exists" in again.err

    def test_json_alone_and_embeddings(self, gaprune, documents, files, empty):
        done = gaprune(
            "data", "from-texts", documents, "--out", empty / "t.jsonl", "--json", "--model", files.model,
            "--device", "cpu", "--min-words", 5, "--kinds", "title", "--negatives", 2,
        )  # fmt: skip
        assert done.code == 0, done.err
        assert done.json["made"] == {"title": 4}
        assert "Embedding" not in done.err
        assert {len(item.negatives) for item in read_triplets(empty / "t.jsonl")} == {2}

    def test_errors(self, gaprune, documents, empty):
        done = gaprune("data", "from-texts", documents, "--out", empty / "t.jsonl", "--kinds", "titles")
        assert done.code == 2
        assert "Did you mean 'title'" in done.err


class TestBench:
    def test_table_json_and_card(self, gaprune, files, empty):
        assert (
            gaprune("prune", files.model, "--criterion", "magnitude", "--set", "device=cpu", "--out", empty / "o").code
            == 0
        )
        small = ("--batch-sizes", "1,2", "--lengths", 12, "--rounds", 2, "--no-memory")
        done = gaprune("bench", empty / "o", files.model, *small, "--write-card")
        assert done.code == 0
        assert "latency, batch 2, 12 tokens" in done.out
        assert "Memory was not measured" in done.out
        assert "neither smaller nor faster" in done.out
        assert "better or worse" in (empty / "o" / "README.md").read_text(encoding="utf-8")
        assert gaprune("bench", files.model, *small, "--json").json["parent"] is None
        refused = gaprune("bench", files.model, *small, "--write-card")
        assert refused.code == 2
        assert "GAPrune did not make" in refused.err


class TestArchive:
    def test_there_and_back(self, gaprune, files, empty):
        done = gaprune("export", files.model, "--to", "archive", "--out", empty / "a")
        assert done.code == 0
        assert "unpack it before use" in done.out
        assert gaprune("unpack", empty / "a", "--out", empty / "o").code == 0
        for file in files.model.rglob("*"):
            if file.is_file():
                assert (empty / "o" / file.relative_to(files.model)).read_bytes() == file.read_bytes()
        found = gaprune("export", files.model, "--to", "archive", "--out", empty / "a", "--overwrite", "--json").json
        assert found["bytes"] == (empty / "a").stat().st_size
        refused = gaprune("export", files.model, "--to", "archive", "--int8", "--out", empty / "b")
        assert refused.code == 2
        assert "int8: an archive keeps the model as it is" in refused.err

    def test_columns_of_the_domain_are_mapped(self, gaprune, files, empty, tmp_path):
        path, mapped = tmp_path / "own.jsonl", ["--set", "columns.query=frage", "--set", "columns.positive=antwort"]
        lines = [{"frage": f"what is {number}", "antwort": f"{number} is a number"} for number in range(40)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        words = ["export", files.model, "--to", "torch", "--dimensions", "5", "--out", empty / "o"]
        assert "--set columns.query=NAME" in gaprune(*words, "--domain", path).err
        assert "columns: no triplets are named" in gaprune(*words, *mapped).err
        assert not list(empty.iterdir())
        done = gaprune(*words, "--domain", path, *mapped, "--set", "floor=0,0")
        assert done.code == 0, done.err
        assert (empty / "o" / "modules.json").is_file()

    def test_an_export_of_an_export(self, gaprune, files, empty):
        (empty / "m" / "onnx").mkdir(parents=True)
        (empty / "m" / "onnx" / "model.onnx").touch()
        done = gaprune("export", empty / "m", "--to", "onnx", "--out", empty / "o")
        assert done.code == 2
        assert "is exported already" in done.err
