"""Shrinking by one dial: from documents or triplets to a judged model, continued after a kill, refused in time."""

import errno
import itertools
import json
import random
import re
from types import SimpleNamespace

import pytest
from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.config.data import DataReading
from gaprune.config.removal import Target
from gaprune.config.shrink import ShrinkOptions
from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplet, Triplets
from gaprune.data.words import normalise
from gaprune.errors import ConfigError, DataError, ModelError, OutputError
from gaprune.evaluation.cost.latency import Speed
from gaprune.export import folder as writing
from gaprune.export.folder import read_queries
from gaprune.export.provenance import Provenance
from gaprune.models.prompts import Prompts
from gaprune.pipelines import meet_target, runtimes, shrink, shrink_plan, structured
from gaprune.pipelines.domain_data import DomainData, prepare_domain
from gaprune.pipelines.shrink_checks import with_prompts
from gaprune.pipelines.stages import Stages
from gaprune.recovery.texts import read_passages
from toys import GENERAL, triplets_file

QUICK = {"prune": {"triplets": 12, "batch_size": 8, "reconstruction_triplets": 8, "round_to": 4}, "minutes": 3.0}
QUICK["recover"] = {"tokens": 2000, "steps": 2, "batch_size": 8}


def documents(folder, seed, count=12):
    """Markdown files with titles, headings and paragraphs of random words."""
    folder.mkdir()
    draw = random.Random(seed)  # noqa: S311 (no secret)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(3, 7))) for _ in range(200)]

    def sentence(length):
        return " ".join(draw.choices(words, k=length)).capitalize() + "."

    for number in range(count):
        parts = [f"# {sentence(5)[:-1]}"]
        for _ in range(4):
            parts += [f"## {sentence(4)[:-1]}", f"{sentence(14)} {sentence(12)}", sentence(20)]
        (folder / f"{number}.md").write_text("\n\n".join(parts), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("shrink")


@pytest.fixture(scope="module")
def arguments(place, folder_of):
    """A parent, documents of a domain and a number of parameters that asks for less of it."""
    parent = folder_of("bert")
    count = sum(each.numel() for each in SentenceTransformer(str(parent), device="cpu").parameters())
    domain, general = documents(place / "documents", 0), documents(place / "others", 1, 4)
    made = gaprune.data.documents.from_texts.triplets_from_texts(general).triplets
    return {
        "model": parent,
        "domain": domain,
        "general": triplets_file(place / "general.jsonl", made),
        "parameters": int(0.6 * count),
        "recipe": QUICK,
    }


@pytest.fixture(scope="module")
def shrunk(arguments, place):
    return gaprune.shrink(**arguments, out=place / "small")


def test_the_child_is_an_ordinary_model_and_meets_the_target(shrunk, arguments):
    child = SentenceTransformer(str(shrunk.out), device="cpu")
    parameters = sum(each.numel() for each in child.parameters())
    assert parameters == shrunk.provenance.sparsity.parameters <= arguments["parameters"]
    *others, last = shrunk.provenance.method.pruning.removed
    assert others
    assert last.kind == "vocabulary", "rows of tokens that no text uses cost nothing, and go first"
    assert child.encode("the bank").shape == (child.get_embedding_dimension(),)


def test_the_record_says_what_was_done_and_measured(shrunk):
    provenance = Provenance.read(shrunk.out)
    found = provenance.shrink
    assert found == shrunk.provenance.shrink
    assert not found.is_labelled
    assert found.minutes.keys() == {"data", "runtime", "pruned", "trained"}
    assert found.held_out_queries < 50
    assert any(str(found.held_out_queries) in warning for warning in found.warnings)
    assert found.speed.speedup > 0
    assert [each.options["tokens"] for each in provenance.recoveries] == [2000]
    assert {score.domain for score in provenance.evaluation.scores} == {"domain", "general"}
    assert provenance.calibration.domain.name == "documents"
    assert {each.data.domain.name for each in provenance.recoveries} == {"documents"}
    assert ShrinkOptions.build(found.options).prune == QUICK["prune"]
    card = (shrunk.out / "README.md").read_text(encoding="utf-8")
    assert f"{provenance.sparsity.parameters:,}" in card
    assert "held-out queries" in card


def test_queries_that_changed_are_on_the_page_which_is_made_again(shrunk):
    page = (shrunk.out / "report.html").read_bytes()
    assert (b'id="queries"' in page) == any(read_queries(shrunk.out).model_dump().values())
    assert gaprune.write_report(shrunk.out).read_bytes() == page
    (shrunk.out / "queries.json").write_text("{}x", encoding="utf-8")
    with pytest.raises(ModelError, match=r"queries\.json"):
        gaprune.write_report(shrunk.out)


def test_nothing_else_is_left(shrunk, place):
    assert not [each.name for each in place.iterdir() if "stages" in each.name or each.name.endswith(".partial")]


def test_held_out_queries_are_in_no_training_data(arguments, place, monkeypatch):
    """The stages are kept if the run ends in one, so that their data can be looked at."""
    monkeypatch.setattr(shrink, "recover", _interrupted)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        gaprune.shrink(**arguments, out=place / "kept")
    assert str(place / "kept.stages") in interrupt.value.__notes__[0]
    data = place / "kept.stages" / "data"
    queries = _column(data / "tasks/domain/HeldOut/queries.jsonl", "text")
    assert queries
    assert not queries & _column(data / "domain.jsonl", "query")
    texts = read_passages(data / "texts")
    assert len(texts) > len(queries)
    assert not queries & {text for _, text in texts.roles()}, "nor is one made of the sentences of a passage"


def test_no_sentence_that_is_distilled_on_is_a_held_out_query(tmp_path):
    """The queries of labelled data can be sentences of passages too, of negatives as well."""
    rows = [
        {"query": f"What does term {n} mean", "positive": f"Meaning {n} is given here. It is long.",
         "negatives": [f"A page asks this. What does term {(n + 7) % 40} mean? Nobody knows."]}
        for n in range(40)
    ]  # fmt: skip
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    others = triplets_file(tmp_path / "general.jsonl", GENERAL)
    prepare_domain(tmp_path / "data", file, others, held_out=0.25, seed=0, reading=DataReading())
    data = DomainData.read(tmp_path / "data")
    held = {normalise(text) for text in _column(data.tasks / "domain/HeldOut/queries.jsonl", "text")}
    texts = read_passages(data.texts)
    read = {normalise(text) for _, text in texts.roles()}
    assert len(held) == 10
    assert not held & read
    assert len(texts) == data.text_count - data.training_triplets, "every query is a text, too"
    assert len(read & {normalise(row["positive"]) for row in rows}) == 40


def test_held_out_queries_are_in_no_general_data_either(tmp_path):
    """Neither as queries, nor as sentences of passages that are distilled on."""
    items = [Triplet(f"What does term {n} mean?", f"Meaning {n} is given here. It is long.", ()) for n in range(40)]
    domain = triplets_file(tmp_path / "asked.jsonl", Triplets(items, "asked"))
    said = [Triplet(f"topic {n}", f"Topic {n} is wide. Topic {n + 1}! It ends.", ()) for n in range(20)]
    both = triplets_file(tmp_path / "general.jsonl", Triplets([*items, *said], "general"))
    prepare_domain(tmp_path / "data", domain, both, held_out=0.25, seed=0, reading=DataReading())
    data = DomainData.read(tmp_path / "data")
    held = {
        normalise(text)
        for kind in ("domain", "general")
        for text in _column(data.tasks / kind / "HeldOut/queries.jsonl", "text")
    }
    assert len(held) > 10
    assert not held & {normalise(query) for query in _column(data.general, "query")}
    assert not held & {normalise(text) for _, text in read_passages(data.general).roles()}
    assert read_triplets(data.general)


def test_prompts_of_one_stage_serve_all():
    given = with_prompts(ShrinkOptions.build({"speedup": 2}, {"prune": {"query_prompt": "q: "}}))
    assert given.prune["query_prompt"] == given.recover["query_prompt"] == "q: "
    other = ShrinkOptions.build({"prune": {"query_prompt": "q: "}, "recover": {"query_prompt": "s: "}, "speedup": 2})
    with pytest.raises(ConfigError, match="query_prompt: prune has 'q: ' and recover 's: '"):
        with_prompts(other)


def test_the_model_is_judged_with_the_prompts_it_is_made_for(arguments, place, monkeypatch):
    asked = []
    judged = shrink.evaluate_queries
    monkeypatch.setattr(
        shrink, "evaluate_queries", lambda *given, **more: asked.append(more["prompts"]) or judged(*given, **more)
    )
    recipe = {**QUICK, "prune": {**QUICK["prune"], "query_prompt": "abc ", "passage_prompt": "de "}}
    gaprune.shrink(**{**arguments, "recipe": recipe}, out=place / "prompted")
    assert asked == [Prompts("abc ", "de ")]


def _column(file, name):
    return {json.loads(line)[name] for line in file.read_text(encoding="utf-8").splitlines()}


def _interrupted(*_args, **_options):
    raise KeyboardInterrupt


def test_what_was_measured_outlives_a_kill_of_the_pruning(arguments, place, monkeypatch):
    monkeypatch.setattr(structured, "reconstruct", _interrupted)
    found = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            gaprune.shrink(**arguments, out=place / "killed")
        sums = place.glob("killed.stages/pruning-*/**/*.safetensors")
        found.append({path: path.stat().st_mtime_ns for path in sums})
    assert found[0]
    assert found[0] == found[1]


def test_a_far_target_is_reached_in_rounds(arguments, place):
    prepare_domain(
        place / "data", arguments["domain"], arguments["general"], held_out=0.1, seed=0, reading=DataReading()
    )
    parent = SentenceTransformer(str(arguments["model"]), device="cpu")
    data = DomainData.read(place / "data")
    for options, rounds in (
        ({"speedup": 2}, 1),
        ({"speedup": 2.2}, 2),
        ({"speedup": 5}, 3),
        ({"speedup": 5, "prune": {"reconstruct": False}}, 1),
        ({"speedup": 2, "prune": {"rounds": 4}}, 4),
    ):
        plan = shrink_plan.plan_shrink(parent, data, ShrinkOptions.build({"minutes": 1e6}, options))
        assert plan.setting.rounds == rounds


@pytest.fixture
def planned(arguments, place, monkeypatch):
    """The function that plans a run, on a machine that needs a minute for a few texts."""
    texts = place / "many"
    if not texts.exists():
        others = documents(place / "more", 2, 16)
        many = gaprune.data.documents.from_texts.triplets_from_texts(others).triplets
        general = triplets_file(place / "many.jsonl", many)
        prepare_domain(texts, arguments["domain"], general, held_out=0.1, seed=0, reading=DataReading())
    parent = SentenceTransformer(str(arguments["model"]), device="cpu")
    monkeypatch.setattr(shrink_plan, "time", SimpleNamespace(perf_counter=itertools.count(0, 60).__next__))

    def plan(minutes, **options):
        asked = ShrinkOptions.build({"parameters": arguments["parameters"] // 2, "minutes": minutes}, options)
        return shrink_plan.plan_shrink(parent, DomainData.read(texts), asked)

    return plan


def test_one_correction_of_the_speed_is_planned(planned):
    setting = planned(1e6).setting
    once, corrected = (setting.passes(6, corrected=each) for each in (False, True))
    assert once < corrected < 2 * once, "what was measured over all triplets is kept"


def test_less_time_is_kept_by_fewer_rounds_then_by_fewer_triplets(planned):
    plans = [planned(10**exponent) for exponent in range(6, -1, -1)]
    plans += [planned(plans[0].pruning_minutes * factor) for factor in (1.5, 1.3, 1)]
    found = {each.setting for each in plans}
    best, least = plans[0].setting, plans[6].setting
    assert best == plans[0].best
    assert (best.rounds, least.rounds) == (3, 1)
    assert least.triplets == 64 < best.triplets
    assert least.layer_triplets == 8 < best.layer_triplets
    assert least.reconstruction_triplets == 16 < 128 < best.reconstruction_triplets <= best.triplets
    assert len(found) > 2
    assert all(each.triplets == best.triplets for each in found if each.rounds > 1)
    assert all(each.pruning_minutes <= each.minutes / 2 for each in plans if each.setting != least)


def test_without_reconstruction_nothing_is_planned_to_fit_on(planned):
    for minutes in (1e6, 1):
        plan = planned(minutes, prune={"reconstruct": False})
        assert "reconstruction_triplets" not in plan.setting.options()
        assert "to fit on" not in plan.setting.less_than(plan.best)
    assert plan.setting.triplets < plan.best.triplets


def test_the_minutes_that_a_refused_run_is_said_to_need_are_enough(planned):
    with pytest.raises(ConfigError, match="minutes") as refused:
        planned(0.5).check()
    (needed,) = re.findall(r"--minutes (\d+)", str(refused.value))
    plan = planned(float(needed))
    plan.check()
    assert plan.training_minutes >= 1


def test_what_the_recipe_says_is_not_planned(planned):
    setting = planned(1, prune={"triplets": "80", "rounds": 2}).setting
    assert (setting.triplets, setting.rounds) == (80, 2)
    assert setting.layer_triplets < planned(1e6).setting.layer_triplets


def test_columns_of_the_domain_are_mapped(tmp_path):
    table = tmp_path / "tickets.csv"
    table.write_text("frage,antwort\n" + "".join(f"question {n},answer {n}\n" for n in range(20)), encoding="utf-8")
    reading = DataReading(columns={"query": "frage", "positive": "antwort"})
    others = triplets_file(tmp_path / "general.jsonl", GENERAL)
    prepare_domain(tmp_path / "data", table, others, held_out=0.1, seed=0, reading=reading)
    data = DomainData.read(tmp_path / "data")
    assert data.is_labelled
    assert data.training_triplets + data.held_out_queries == 20
    folder = documents(tmp_path / "documents", 0, 2)
    with pytest.raises(ConfigError, match=r"columns: .* holds documents"):
        prepare_domain(tmp_path / "other", folder, others, held_out=0.1, seed=0, reading=reading)


def test_training_gets_the_least_it_needs_if_pruning_left_no_time(arguments, place, capsys, monkeypatch):
    monkeypatch.setattr(shrink_plan, "_FEWEST_MINUTES", 1e-6)
    monkeypatch.setattr(shrink_plan, "_PASSES_OF_A_STEP", 0)
    monkeypatch.setattr(Stages, "minutes", lambda _stages, *names: 100.0 if "pruned" in names else 0.0)
    recipe = {**QUICK, "recover": {"steps": 2, "batch_size": 8}}
    found = gaprune.shrink(**{**arguments, "recipe": recipe}, out=place / "late").provenance
    said = capsys.readouterr().err
    assert "the least it needs" in said
    assert "no training on labels, and recover.steps has no effect" in said
    assert found.recoveries[0].options["minutes"] > 1e-6
    assert found.recoveries[0].training.steps > 0


def test_a_disk_that_is_full_in_any_stage(arguments, place, monkeypatch):
    """Nothing is half-written, finished stages are kept, and the same command continues with the stage it was in."""

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    def saved(*args, **options):
        with monkeypatch.context() as within:
            within.setattr(writing, "write_model", full)
            return writing.save(*args, **options)

    out, finished = place / "full", set()
    for stage, step, fails in (
        ("data", "prepare_domain", full),
        ("runtime", "choose_runtime", full),
        ("pruned", "meet_target", full),
        ("trained", "recover", full),
        ("full", "save", saved),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(shrink, step, fails)
            with pytest.raises(OutputError, match=rf"{stage}.*No space left.*\n.*[Mm]ake room"):
                gaprune.shrink(**arguments, out=out)
        assert not out.exists()
        kept = {each.name for each in place.glob("full.stages/*")}
        assert {name for name in kept if not name.startswith(("pruning-", "training-"))} == finished
        finished |= {stage}
    for done in ("prepare_domain", "choose_runtime", "meet_target", "recover"):
        monkeypatch.setattr(shrink, done, _interrupted)
    monkeypatch.setattr(shrink_plan, "_PASSES_OVER_ALL", 1e9)  # a bad estimate of what is done already stops nothing
    assert gaprune.shrink(**arguments, out=out).out == out
    assert not (place / "full.stages").exists()


class TestSpeed:
    """A stand-in for a machine that gains only half (in logarithms) of what the operations say."""

    @pytest.fixture
    def met(self, folder_of, toy_triplets, tmp_path, monkeypatch):
        """Return the function that prunes for 1.4 times; the final measurement of a model says something else."""
        from gaprune.evaluation.cost.footprint import count_flops

        def found(error=1.0, scatter=0.0):
            def measured(child, parent, *, texts, **_options):
                ratio = count_flops(parent.model).per_token(16) / count_flops(child.model).per_token(16)
                each = ratio**0.5 * (error if texts == 32 else 1)
                ratios = {"latency": each, "throughput": each, "error": scatter if texts == 32 else 0.0}
                return Speed(**ratios, milliseconds=(1, 1), texts_per_second=(1, 1))

            monkeypatch.setattr(runtimes, "measure_speed", measured)
            parent = SentenceTransformer(str(folder_of("bert")), device="cpu")
            data = {"domain": toy_triplets, "general": toy_triplets, "batch_size": 4}
            options = {**data, "round_to": 1, "layer_triplets": 4, "reconstruct": False}
            meet_target.meet_target(parent, Target("speedup", 1.4), tmp_path, runtime="torch", options=options)
            return meet_target.Met.read(tmp_path)

        return found

    def test_one_pruning_meets_it(self, met, tmp_path):
        found = met()
        (only,) = found.attempts
        assert only.expected == pytest.approx(found.speed.speedup, rel=0.02)
        assert found.speed.speedup == pytest.approx(1.4, rel=0.05)
        assert SentenceTransformer(str(tmp_path / "model"), device="cpu")

    def test_one_that_misses_it_is_made_again(self, met):
        found = met(error=0.9)
        errors = [abs(each.speed.speedup / 1.4 - 1) for each in found.attempts]
        assert len(errors) > 1
        assert errors[found.chosen] == min(errors) < errors[0]

    def test_one_that_may_have_met_it_is_kept(self, met, capsys):
        (only,) = met(error=0.8, scatter=0.1).attempts
        assert only.speed.speedup == pytest.approx(1.12, rel=0.05)
        assert "too uncertain" in capsys.readouterr().err


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "error", "named"),
        [
            ({"out": None}, ConfigError, "out"),
            ({"model": None}, ConfigError, "model"),
            ({"domain": None}, ConfigError, "domain"),
            ({"parameters": None}, ConfigError, "speedup"),
            ({"speedup": 2}, ConfigError, "one target"),
            ({"runtime": "onnx"}, ConfigError, "runtime"),
            ({"parameters": "1"}, ConfigError, "out of reach"),
            ({"minutes": 0.001}, ConfigError, "minutes"),
            ({"prune": {"target": "speedup=2"}}, ConfigError, "prune: target is decided"),
            ({"prune": {"width": 0.5}}, ConfigError, "width"),
            ({"prune": {"criterio": "dai"}}, ConfigError, "criterion"),
            ({"recover": {"texts": "a.txt"}}, ConfigError, "recover: texts is decided"),
            ({"recover": {"learning_rat": 1}}, ConfigError, "learning_rate"),
        ],
    )
    def test_options(self, arguments, tmp_path, changes, error, named):
        recipe = {**QUICK, **{name: changes.pop(name) for name in ("minutes", "prune", "recover") if name in changes}}
        with pytest.raises(error, match=named):
            gaprune.shrink(**{**arguments, "out": tmp_path / "out", **changes, "recipe": recipe})
        assert not list(tmp_path.iterdir()), "stages that cost nothing are not kept"

    def test_no_text(self, arguments, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "a.txt").write_text("", encoding="utf-8")
        with pytest.raises(DataError, match="empty"):
            gaprune.shrink(**{**arguments, "domain": tmp_path / "empty"}, out=tmp_path / "out")

    def test_a_run_that_is_still_going(self, arguments, tmp_path):
        from gaprune.util.files import locked

        with locked(tmp_path / "out.stages"), pytest.raises(OutputError, match="another run"):
            gaprune.shrink(**arguments, out=tmp_path / "out")


def test_targets_are_written_without_their_names():
    for option, value, limit in (("speedup", "3", 3), ("size", "25MB", 25e6), ("parameters", "12M", 12e6)):
        options = ShrinkOptions.build({option: value})
        assert (options.target.kind, options.target.limit) == (option, limit)
        assert ShrinkOptions.build(options.model_dump(exclude_none=True, mode="json")).target == options.target
