"""Comparisons: the table holds what single runs measure, and nothing is measured twice or in vain."""

from __future__ import annotations

import json
from collections import Counter
from statistics import fmean, stdev

import pytest

import gaprune
from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import ConfigError, DataError
from gaprune.evaluation.comparison import Cell, Comparison
from gaprune.evaluation.curves import make_curves
from gaprune.evaluation.quality import changed
from gaprune.evaluation.quality.scores import Evaluation, Score
from gaprune.export.provenance import Provenance
from gaprune.models.names import model_name
from gaprune.pipelines import prune as pipeline
from gaprune.pruning import calibration as calibration_data
from gaprune.pruning import measure as measuring
from gaprune.report.markdown import markdown_table
from toys import GENERAL, tasks_folder

RECOVER = {"batch_size": 2, "held_out": 0}
CRITERIA = ("dai-paper", "magnitude", "random", "wanda-mix")
SPARSITIES = (0.5, 0.8)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return tasks_folder(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def table(folder_of, toy_triplets, tasks):
    """A comparison over two samples, with the numbers of measurements and evaluations it took."""
    counts = Counter()
    with pytest.MonkeyPatch.context() as patch:
        measure, evaluate = measuring.measure, pipeline.evaluate

        def counted_measure(*args, **kwargs):
            counts[kwargs["label"]] += 1
            return measure(*args, **kwargs)

        def counted_evaluate(*args, **kwargs):
            counts["dense"] += 1
            return evaluate(*args, **kwargs)

        patch.setattr(measuring, "measure", counted_measure)
        patch.setattr(pipeline, "evaluate", counted_evaluate)
        found = gaprune.compare(
            folder_of("bert"),
            criteria=CRITERIA,
            tasks=tasks,
            domain=toy_triplets,
            reconstruct=False,
            general=GENERAL,
            seeds=2,
            triplets=4,
            seed=3,
            sparsity=SPARSITIES,
            targets="all",
            device="cpu",
        )
    return found, counts


class TestTable:
    def test_numbers_are_those_of_single_runs(self, table, folder_of, toy_triplets, tasks):
        found, _ = table
        for cell in found.cells:
            single = gaprune.prune(
                folder_of("bert"),
                domain=toy_triplets,
                general=GENERAL,
                reconstruct=False,
                criterion=cell.criterion,
                seed=cell.seed,
                sparsity=cell.sparsity,
                triplets=4,
                targets="all",
                tasks=tasks,
                device="cpu",
            ).evaluation
            assert [(each.task, each.value, each.parent) for each in single.scores] == [
                (each.task, each.value, each.parent) for each in cell.evaluation.scores
            ]

    def test_every_cell_once_and_data_free_criteria_for_one_seed(self, table):
        seeds = {"dai-paper": (3, 4), "magnitude": (3,), "random": (3, 4), "wanda-mix": (3, 4)}
        wanted = {(name, value, seed) for name in CRITERIA for value in SPARSITIES for seed in seeds[name]}
        cells = [(cell.criterion, cell.sparsity, cell.seed) for cell in table[0].cells]
        assert len(cells) == len(wanted)
        assert set(cells) == wanted

    def test_one_measurement_a_seed_and_one_evaluation_of_the_parent(self, table):
        assert table[1] == {"domain": 2, "general": 2, "dense": 1}

    def test_spread_over_seeds(self, table):
        found = table[0]
        means = [
            cell.evaluation.mean("general")
            for cell in found.cells
            if (cell.criterion, cell.sparsity) == ("dai-paper", 0.8)
        ]
        summary = found.summary("dai-paper", 0.8, "general")
        assert summary.mean == pytest.approx(fmean(means))
        assert summary.spread == pytest.approx(stdev(means))
        assert summary.relative == pytest.approx(fmean(means) / found.dense.mean("general") - 1)
        assert found.summary("magnitude", 0.8, "general").spread is None

    def test_a_lead_is_that_of_the_best_mean_over_the_next(self, table):
        found = table[0]
        assert len(found.leads) == 2 * len(SPARSITIES)
        for lead in found.leads:
            means = {name: found.summary(name, lead.sparsity, lead.domain).mean for name in CRITERIA}
            first, second = sorted(means.values(), reverse=True)[:2]
            assert (means[lead.best], means[lead.following]) == (first, second)
            assert lead.difference.value == pytest.approx(first - second)
            assert lead.difference.low <= lead.difference.value <= lead.difference.high

    def test_markdown(self, table):
        found = table[0]
        lines = markdown_table(found.header(), found.rows()).splitlines()
        assert lines[0] == "| criterion | sparsity | finance | general | finance in the parent's index |"
        means = [found.dense.mean(domain) for domain in ("finance", "general", "finance")]
        assert lines[2] == "| dense | 0 | " + " | ".join(f"{mean:.4f}" for mean in means) + " |"
        assert [line.split(" | ")[:2] for line in lines[3:]] == [
            [f"| {name}", f"{value:g}"] for value in SPARSITIES for name in CRITERIA
        ]
        dai, magnitude = lines[3], lines[4]
        assert dai.count("±") == 3
        assert "±" not in magnitude
        assert magnitude.count("%)") == 3

    def test_json(self, table):
        found = table[0]
        said = json.loads(json.dumps(found.as_dict()))
        assert said["dense"] == json.loads(json.dumps(found.dense.as_dict()))
        assert len(said["cells"]) == len(found.cells)
        assert Comparison.model_validate(said) == found
        assert said["settings"]["sparsity"] == list(SPARSITIES)
        assert not {"criterion", "seed", "out", "scores"} & said["settings"].keys()

    def test_settings_can_be_audited(self, table, folder_of, toy_triplets, tasks):
        settings = json.loads(json.dumps(table[0].as_dict()))["settings"]
        assert settings["parent"]["name"] == model_name(folder_of("bert"))
        assert len(settings["parent"]["weights_sha256"]) == 64
        assert settings["tasks"] == tasks.name
        assert settings["prompts"] == {"query": "", "passage": ""}
        assert settings["versions"]["gaprune"]
        assert list(settings["criteria"]) == list(CRITERIA)
        assert [(each["seed"], each["triplets"]) for each in settings["calibration"]] == [(3, 4), (4, 4)]
        for sample in settings["calibration"]:
            for kind, triplets in (("domain", toy_triplets), ("general", GENERAL)):
                assert sample[kind]["sha256"] == triplets.take(4, seed=sample["seed"]).fingerprint

    def test_calibration_texts_in_the_tasks_are_recorded(self, table, folder_of, toy_triplets, tasks, tmp_path):
        options = {
            "criterion": "wanda",
            "reconstruct": False,
            "device": "cpu",
            "sparsity": 0.5,
            "out": tmp_path / "out",
        }
        gaprune.prune(folder_of("bert"), domain=toy_triplets, tasks=tasks, **options)
        leaks = Provenance.read(tmp_path / "out").leaks
        assert [leak.split(" task ")[1].split(",")[0] for leak in leaks] == ["Search", "Similar"]
        own, general = (
            [each for each in table[0].warnings if each.startswith(f"Warning: {kind} data: ")]
            for kind in ("domain", "general")
        )
        assert own == [f"Warning: {leak}" for leak in leaks]
        assert len(general) == 2

    def test_texts_of_other_data_in_the_tasks_are_recorded(self, folder_of, toy_triplets, tasks):
        """General triplets are calibrated on and trained with, too; so are the queries of texts."""
        domain = Triplets([Triplet(f"entry {n}", f"line {n} of a ledger", ("none",)) for n in range(12)], "d.jsonl")
        options = {"domain": domain, "general": toy_triplets, "tasks": tasks, "device": "cpu"}
        pruned = gaprune.prune(folder_of("bert"), criterion="dai", reconstruct=False, sparsity=0.5, **options)
        recovered = gaprune.recover(folder_of("bert"), steps=1, batch_size=4, general_share=0.5, held_out=0, **options)
        for leaks in (pruned.leaks, recovered.leaks):
            assert [leak.partition(" data")[0] for leak in leaks] == ["general", "general"]

    def test_a_parent_that_finds_nothing_gives_no_relative_change(self):
        def evaluation(value, parent=None):
            score = Score(
                task="t", domain="", kind="triplets", metric="accuracy", value=value, seconds=0.0, parent=parent
            )
            return Evaluation((score,))

        cell = Cell(criterion="dai", sparsity=0.5, seed=0, evaluation=evaluation(0.25, 0.0))
        found = Comparison(settings={}, dense=evaluation(0.0), cells=(cell,))
        assert found.summary("dai", 0.5, "").relative is None
        assert found.rows() == [["dense", "0", "0.0000"], ["dai", "0.5", "0.2500"]]
        assert found.header()[-1] == "all tasks"


@pytest.fixture(scope="module")
def varied(folder_of, toy_triplets, tasks):
    """An ablation, a sweep and two numbers of triplets at once, with the numbers of measurements it took."""
    counts = Counter()
    with pytest.MonkeyPatch.context() as patch:
        measure = measuring.measure

        def counted(*args, **kwargs):
            counts[kwargs["label"]] += 1
            return measure(*args, **kwargs)

        patch.setattr(measuring, "measure", counted)
        found = gaprune.compare(
            folder_of("bert"),
            criteria=["dai:tempering=0.5:swaps=0:centred=false", "magnitude", "random"],
            tasks=tasks,
            domain=toy_triplets,
            reconstruct=False,
            ablate=True,
            sweep={"tempering": [1]},
            seeds=2,
            recipe={"triplets": "3,5"},
            sparsity=SPARSITIES,
            device="cpu",
        )
    return found, counts


class TestVariants:
    NAMES = (
        "dai:tempering=0.5:swaps=0:centred=false",
        "dai:tempering=0:swaps=0:centred=false",
        "dai:tempering=1:swaps=0:centred=false",
    )

    def test_one_measurement_a_seed_and_number_of_triplets(self, varied):
        assert varied[1] == {"domain": 4}

    def test_every_cell_once(self, varied):
        cells = [(cell.criterion, cell.sparsity, cell.triplets, cell.seed) for cell in varied[0].cells]
        wanted = {
            (name, value, n, seed) for name in self.NAMES for value in SPARSITIES for n in (3, 5) for seed in (0, 1)
        }
        wanted |= {("magnitude", value, None, 0) for value in SPARSITIES}
        wanted |= {("random", value, None, seed) for value in SPARSITIES for seed in (0, 1)}
        assert len(cells) == len(wanted)
        assert set(cells) == wanted

    def test_numbers_are_those_of_a_single_run(self, varied, folder_of, toy_triplets, tasks):
        (cell,) = (
            cell
            for cell in varied[0].cells
            if (cell.criterion, cell.sparsity, cell.triplets, cell.seed) == (self.NAMES[1], 0.8, 5, 1)
        )
        single = gaprune.prune(
            folder_of("bert"),
            domain=toy_triplets,
            criterion="dai:tempering=0.0:swaps=0:centred=False",
            reconstruct=False,
            seed=1,
            sparsity=0.8,
            triplets=5,
            tasks=tasks,
            device="cpu",
        )
        assert [score.value for score in single.evaluation.scores] == [score.value for score in cell.evaluation.scores]

    def test_table(self, varied):
        found = varied[0]
        domains = ["finance", "general", "finance in the parent's index"]
        assert found.header() == ["criterion", "change", "triplets", "sparsity", *domains]
        assert [row[:4] for row in found.rows()] == [
            ["dense", "", "", "0"],
            *(
                [name, change, count, f"{value:g}"]
                for value in SPARSITIES
                for name, change, counts in (
                    (self.NAMES[0], "", ("3", "5")),
                    (self.NAMES[0], "without tempering", ("3", "5")),
                    (self.NAMES[0], "tempering=1.0", ("3", "5")),
                    ("magnitude", "", ("",)),
                    ("random", "", ("",)),
                )
                for count in counts
            ),
        ]

    def test_several_numbers_of_triplets_are_told_apart(self, varied):
        found = varied[0]
        for count in (3, 5):
            means = [
                cell.evaluation.mean("general")
                for cell in found.cells
                if (cell.criterion, cell.sparsity, cell.triplets) == (self.NAMES[2], 0.5, count)
            ]
            assert found.summary(self.NAMES[2], 0.5, "general", count).mean == pytest.approx(fmean(means))
        with pytest.raises(ConfigError, match=r"was not compared at sparsity 0\.5 with None triplets.*\n.*: 3, 5\."):
            found.summary(self.NAMES[2], 0.5, "general")
        assert found.summary("magnitude", 0.5, "general").spread is None

    def test_json(self, varied):
        said = json.loads(json.dumps(varied[0].as_dict()))
        assert said["variants"]["by_name"][self.NAMES[1]] == {"base": self.NAMES[0], "change": "without tempering"}
        assert said["variants"]["sweeps"] == [
            {"base": self.NAMES[0], "option": "tempering", "points": [[0.5, self.NAMES[0]], [1.0, self.NAMES[2]]]}
        ]
        assert said["settings"]["triplets"] == [3, 5]
        assert said["settings"]["criteria"][self.NAMES[2]]["tempering"] == 1.0
        assert len(said["settings"]["calibration"]) == 4

    def test_curves(self, varied):
        found = varied[0]
        by_sparsity, by_triplets, by_value = make_curves(found)
        assert [curves.name for curves in (by_sparsity, by_triplets, by_value)] == [
            "by-sparsity",
            "by-triplets",
            "by-tempering",
        ]
        finance, general = by_sparsity.panels
        assert (finance.title, general.dense) == ("finance", found.dense.mean("general"))
        assert list(general.lines)[-3:] == [f"{self.NAMES[2]}, 5 triplets", "magnitude", "random"]
        assert general.lines["magnitude"] == [
            (value, found.summary("magnitude", value, "general")) for value in SPARSITIES
        ]
        assert [panel.title for panel in by_triplets.panels] == [
            f"{domain}, sparsity {value}" for value in SPARSITIES for domain in ("finance", "general")
        ]
        assert list(by_triplets.panels[0].lines) == list(self.NAMES)
        assert [x for x, _ in by_triplets.panels[3].lines[self.NAMES[0]]] == [3, 5]
        assert by_value.panels[1].lines[f"{self.NAMES[0]}, 3 triplets"] == [
            (0.5, found.summary(self.NAMES[0], 0.5, "general", 3)),
            (1.0, found.summary(self.NAMES[2], 0.5, "general", 3)),
        ]

    def test_a_plain_comparison_has_one_figure(self, table):
        assert [curves.name for curves in make_curves(table[0])] == ["by-sparsity"]


class TestRefusedBeforeMeasuring:
    @pytest.fixture(autouse=True)
    def _never_measured(self, monkeypatch):
        def fail(*_args, **_kwargs):
            raise AssertionError("measured before everything was checked")

        monkeypatch.setattr(measuring, "measure", fail)

    @pytest.mark.parametrize("criteria", [("dai", "magnitde"), ("magnitde", "dai"), ("magnitude", "obd-generl")])
    def test_unknown_criterion(self, bert, tasks, toy_triplets, criteria):
        with pytest.raises(ConfigError, match=r"Unknown criterion '(magnitde|obd-generl)'"):
            gaprune.compare(bert, criteria=criteria, tasks=tasks, domain=toy_triplets, general=GENERAL)

    @pytest.mark.parametrize(("criteria", "seeds"), [((), 1), (("dai",), 0)])
    def test_nothing_to_compare(self, bert, tasks, criteria, seeds):
        with pytest.raises(ConfigError, match="criteria, seeds: at least one of each"):
            gaprune.compare(bert, criteria=criteria, tasks=tasks, seeds=seeds)

    def test_no_tasks(self, bert, tmp_path):
        with pytest.raises(DataError, match="holds no task"):
            gaprune.compare(bert, criteria=["magnitude"], tasks=tmp_path)

    def test_several_processes(self, bert, tasks, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ConfigError, match=r"^compare: 2 processes were started"):
            gaprune.compare(bert, criteria=["magnitude"], tasks=tasks)

    def test_no_domain(self, bert, tasks):
        with pytest.raises(ConfigError, match=r"^domain: "):
            gaprune.compare(bert, criteria=["magnitude", "wanda"], tasks=tasks)

    def test_a_sweep_and_a_global_budget(self, bert, tasks, toy_triplets):
        with pytest.raises(ConfigError, match="allocation: sparsegpt updates weights"):
            gaprune.compare(bert, criteria=["dai", "sparsegpt"], tasks=tasks, domain=toy_triplets, allocation="global")

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("out", "out"),
            ("scores", "s.safetensors"),
            ("criterion", "dai"),
            ("overwrite", True),
        ],
    )
    def test_options_that_would_mean_nothing_for_several(self, bert, tasks, option, value):
        with pytest.raises(ConfigError, match=f"^{option}: a comparison does not have this option"):
            gaprune.compare(bert, criteria=["dai"], tasks=tasks, recipe={option: value})

    @pytest.mark.parametrize("criteria", [["dai"], ["magnitude", "random", "wanda"]])
    def test_seeds_that_would_all_measure_the_same(self, bert, tasks, toy_triplets, criteria):
        with pytest.raises(ConfigError, match=r"^seeds: all 3 would measure the same triplets.*\n.*--triplets N"):
            gaprune.compare(bert, criteria=criteria, tasks=tasks, domain=toy_triplets, general=GENERAL, seeds=3)

    @pytest.mark.parametrize("triplets", [7, [3, 6], "3, 7"])
    def test_seeds_that_draw_all_there_are(self, bert, tasks, toy_triplets, triplets):
        data = {"domain": toy_triplets, "general": GENERAL[:6]}
        with pytest.raises(ConfigError, match=r"^seeds: all 2 would measure the same|7 asked for, general"):
            gaprune.compare(bert, criteria=["wanda-mix"], tasks=tasks, seeds=2, triplets=triplets, **data)

    def test_more_triplets_than_there_are(self, tasks, toy_triplets):
        with pytest.raises(ConfigError, match=r"^triplets: 99 asked for"):
            gaprune.compare("not/loaded", criteria=["dai"], tasks=tasks, domain=toy_triplets, triplets=[3, 99])

    @pytest.mark.parametrize(
        ("triplets", "problem"),
        [
            ([], r"^triplets: no number is given"),
            ("3,x", r"^triplets: "),
            ([0], r"^triplets: "),
            ([2.5], r"^triplets: "),
        ],
    )
    def test_numbers_of_triplets_that_are_none(self, tasks, toy_triplets, triplets, problem):
        with pytest.raises(ConfigError, match=problem):
            gaprune.compare("not/loaded", criteria=["dai"], tasks=tasks, domain=toy_triplets, triplets=triplets)

    def test_triplets_for_criteria_that_look_at_none(self, tasks):
        with pytest.raises(ConfigError, match=r"^triplets: none of these criteria looks at any"):
            gaprune.compare("not/loaded", criteria=["magnitude"], tasks=tasks, triplets=[3, 4])

    def test_faults_of_the_data_before_the_model_is_loaded(self, tasks, tmp_path):
        (tmp_path / "bad.jsonl").write_text('{"query": "a"}\n')
        with pytest.raises(DataError, match=r"bad\.jsonl:1: has no positive"):
            gaprune.compare("not/loaded", criteria=["dai"], tasks=tasks, domain=tmp_path / "bad.jsonl")

    def test_how_to_load_a_model_that_is_loaded(self, bert, tasks):
        with pytest.raises(ConfigError, match=r"^dtype: the parent is a loaded model"):
            gaprune.compare(bert, criteria=["magnitude"], tasks=tasks, dtype="bfloat16")


class TestDataOfOthers:
    """A criterion sees what it would see alone, whatever the others ask for."""

    def test_public_general_data_are_for_those_that_ask(self, bert, tasks, toy_triplets, monkeypatch):
        monkeypatch.setattr(calibration_data, "read_general", lambda *_args, **_options: GENERAL)
        options = {"tasks": tasks, "domain": toy_triplets, "recover": 2, "recovery": RECOVER, "sparsity": 0.6}
        alone = gaprune.compare(bert, criteria=["dai"], **options)
        beside = gaprune.compare(bert, criteria=["fisher-general", "dai"], **options)
        (own,), (_, same) = alone.cells, beside.cells
        assert same.criterion == "dai"
        assert [score.value for score in same.evaluation.scores] == [score.value for score in own.evaluation.scores]
        assert beside.settings["criteria"]["dai"]["general_share"] == 0

    def test_recovery_reads_what_no_criterion_looks_at(self, bert, tasks, toy_triplets):
        found = gaprune.compare(
            bert, criteria=["magnitude"], tasks=tasks, domain=toy_triplets, reconstruct=False, recover=2,
            recovery=RECOVER,
        )  # fmt: skip
        assert len(found.cells) == 1


class TestCheckpoints:
    def test_samples_of_several_sizes_are_kept_apart(self, bert, tasks, toy_triplets, tmp_path):
        options = {
            "criteria": ["obd"],
            "tasks": tasks,
            "domain": toy_triplets,
            "reconstruct": False,
            "triplets": [3, 5],
        }
        kept = gaprune.compare(bert, checkpoint=tmp_path / "kept", **options)
        again = gaprune.compare(bert, checkpoint=tmp_path / "kept", resume=True, **options)
        plain = gaprune.compare(bert, **options)
        assert [cell.evaluation.mean() for cell in kept.cells] == [cell.evaluation.mean() for cell in plain.cells]
        assert [cell.evaluation.mean() for cell in again.cells] == [cell.evaluation.mean() for cell in plain.cells]

    def test_variants_share_what_is_measured_without_layers(self, bert, tasks, toy_triplets, tmp_path):
        options = {"depth": 1, "width": 0.5, "round_to": 1, "tasks": tasks, "domain": toy_triplets}
        names = ["dai", "activation", "dai:reconstruction_aware=false"]
        kept = gaprune.compare(bert, criteria=names, checkpoint=tmp_path / "kept", **options)
        plain = gaprune.compare(bert, criteria=names, **options)
        assert [cell.evaluation.mean() for cell in kept.cells] == [cell.evaluation.mean() for cell in plain.cells]


def test_a_target_is_one_column_whatever_it_led_to(bert, tasks, toy_triplets):
    found = gaprune.compare(
        bert, criteria=["dai", "magnitude"], tasks=tasks, domain=toy_triplets, target="speedup=1.6", round_to=1,
        seeds=2, triplets=5, reconstruct=False,
    )  # fmt: skip
    assert found.sparsities == (pytest.approx(1 - 1 / 1.6),)
    assert found.summary("dai", found.sparsities[0], found.domains[0]).spread is not None


class TestResults:
    def test_each_is_handed_over_with_its_model(self, bert, tasks):
        seen = []
        found = gaprune.compare(
            bert,
            criteria=["magnitude", "random"],
            tasks=gaprune.find_tasks(tasks),
            sparsity=0.5,
            on_result=seen.append,
        )
        assert [result.recipe.criterion for result in seen] == ["magnitude", "random"]
        assert [result.evaluation for result in seen] == [cell.evaluation for cell in found.cells]
        assert found.dense.mean() == seen[0].evaluation.parent_mean()
        assert all(result.sparsity_of_selected == 0.5 for result in seen)

    def test_batch_size_of_the_evaluation(self, bert, tasks, monkeypatch):
        asked = []
        for module in (pipeline, changed):

            def spy(*args, evaluate=module.evaluate, **kwargs):
                asked.append(kwargs["batch_size"])
                return evaluate(*args, **kwargs)

            monkeypatch.setattr(module, "evaluate", spy)
        options = {"criterion": "magnitude", "tasks": tasks}
        found = gaprune.prune(bert, evaluation_batch_size=3, **options)
        found.evaluate(gaprune.find_tasks(tasks))
        found.evaluate(gaprune.find_tasks(tasks), batch_size=5)
        assert asked == [3, 3, 3, 5]

    def test_data_free_criteria_stop_after_one_seed(self, bert, tasks):
        found = gaprune.compare(bert, criteria=["magnitude", "magnitude"], tasks=tasks, seeds=3)
        assert [cell.seed for cell in found.cells] == [0]

    def test_what_draws_needs_no_triplets_for_more_seeds(self, bert, tasks):
        found = gaprune.compare(bert, criteria=["random"], recipe={"tasks": tasks}, seeds=2)
        assert [cell.seed for cell in found.cells] == [0, 1]

    @pytest.mark.parametrize("tasks", [[], None])
    def test_without_tasks_there_is_nothing_to_compare(self, tasks):
        with pytest.raises(ConfigError, match=r"^tasks: there is none to compare on"):
            gaprune.compare("not/loaded", criteria=["magnitude"], tasks=tasks)
