"""All criteria on the test bed: all-MiniLM-L6-v2, finance and chemistry, 512 triplets a side, mask only and updated.

    python benchmarks/criteria.py [--seeds 3] [--limit N] [--domain finance] [--only dai,wanda] [--write]
    python benchmarks/criteria.py --table

Weights at several sparsities and in the 2:4 pattern, and half of all FFN neurons, by `dai` and by every baseline, with
and without reconstruction. Every finished cell is kept in benchmarks/results/criteria.jsonl, and a run continues where
another stopped: the first seed of all settings comes first, the criteria that claims are about before the others. The
tables go to stdout, and with --write into docs/science.md.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, cached_property
from itertools import product
from math import nan
from statistics import fmean, stdev
from typing import Any

from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.config.recipe import Recipe
from gaprune.criteria.base import needs_of
from gaprune.criteria.needs import Needs
from gaprune.criteria.registry import create
from gaprune.data.read import read_triplets
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.task import Task
from gaprune.models.demo import demo_model
from gaprune.models.linear_layers import linear_layers, select
from gaprune.models.load import load_model
from gaprune.pruning.calibration import Calibration, CalibrationData, draw_calibration
from gaprune.pruning.measure import measure_both
from gaprune.pruning.scoring import score
from gaprune.pruning.zeros import Pruning, apply
from gaprune.reconstruction.reconstruct import Start
from gaprune.reconstruction.validate import reconstruct
from gaprune.report.markdown import markdown_table
from testbed import DOMAINS, RESULTS, Lines, for_encoding, machine, put_table, testbed

TASKS = {
    "finance": ("TATQA", "ConsumerRules", "FinanceTerms", "Banking77"),
    "chemistry": ("ChemMethods", "MoleculeNames", "MethodSynonyms", "MoleculeFamilies"),
    "general": ("ImageCaptionsSTS", "Clinc150"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp 0.5": {"targets": ("mlp",), "sparsity": 0.5},
    "mlp 0.7": {"targets": ("mlp",), "sparsity": 0.7},
    "all 0.5": {"targets": ("all",), "sparsity": 0.5},
    "all 0.65": {"targets": ("all",), "sparsity": 0.65},
    "all 2:4": {"targets": ("all",), "granularity": "2:4"},
    "width 0.5": {"width": 0.5},
}
WIDTH = "width 0.5"
FIRST = ("dai", "dai + reconstruction", "wanda", "sparsegpt")
"""What claims are about: run before the others."""
OTHERS = (
    "wanda-mix", "sparsegpt-mix", "magnitude", "obd", "obd-mix", "fisher", "fisher-general", "dai-paper", "random",
)  # fmt: skip
OF_WIDTH = ("dai", "dai + reconstruction", "activation", "activation + reconstruction")
"""Other baselines for neurons are in benchmarks/units.py."""
WIDTH_ONLY = ("activation", "activation + reconstruction")
MASK_ONLY = ("random", "magnitude", "fisher-general", "fisher", "obd", "obd-mix", "wanda", "wanda-mix", "dai-paper")
RECIPE: dict[str, Any] = {"triplets": 512, "max_length": 64}
Cell = tuple[str, str, str, int]


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="samples of the calibration triplets")
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="end after so many cells")
    parser.add_argument("--domain", choices=DOMAINS, help="this domain alone")
    parser.add_argument("--only", default="", help="these rows alone, comma-separated")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/science.md")
    args = parser.parse_args()
    lines = Lines(RESULTS / "criteria.jsonl")
    done = {tuple(line["cell"]): line for line in lines if line["constants"] == constants(line["cell"][2])}
    only = set(filter(None, args.only.split(",")))
    missing = [
        cell
        for cell in cells(args.seeds)
        if cell not in done and cell[0] == (args.domain or cell[0]) and (not only or cell[2] in only)
    ]
    missing = missing[: 0 if args.table else args.limit]
    for cell in missing:
        domain, _, _, seed = cell
        rows = [row for other, _, row, drawn in missing if (other, drawn) == (domain, seed) and row != "dense"]
        line = {"cell": cell, "constants": constants(cell[2]), **made(cell, rows), "machine": machine()}
        lines.add(line)
        done[cell] = line
        means = [round(fmean(line["scores"][kind].values()), 4) for kind in ("domain", "general")]
        sys.stderr.write(f"{cell}: {means}\n")
    text = "\n".join([*(table(domain, done) for domain in DOMAINS), summary(done)])
    sys.stdout.write(text)
    if args.write:
        put_table("criteria", text, page="science.md")


def cells(seeds: int) -> Iterator[Cell]:
    """Yield every cell, the most telling first."""
    yield from ((domain, "dense", "dense", 0) for domain in DOMAINS)
    for seed in range(seeds):
        for domain in DOMAINS:
            for setting in SETTINGS:
                yield from ((domain, setting, row, seed) for row in (OF_WIDTH if setting == WIDTH else FIRST))
        for row, domain in product(OTHERS, DOMAINS):
            if seed == 0 or create(row).depends_on_seed:
                yield from ((domain, setting, row, seed) for setting in SETTINGS if setting != WIDTH)


def constants(row: str) -> dict[str, Any]:
    """Return the constants of a row's criterion; cells made with others are made again."""
    return {} if row == "dense" else create(row.removesuffix(" + reconstruction")).model_dump()


def made(cell: Cell, rows: Collection[str]) -> dict[str, Any]:
    """Return the scores of one model and the report of its reconstruction; ``rows`` are all rows of its sample."""
    domain, setting, row, seed = cell
    model, reconstruct = Sample.of(domain, seed, rows).pruned(setting, row)
    scores = {kind: quality(model, tasks(folder)) for kind, folder in (("domain", domain), ("general", "general"))}
    return {"scores": scores, "reconstruct": reconstruct}


class Sample:
    """One calibration sample of a domain and of general text: measured once, pruned in every way.

    Args:
        domain: Name of the domain.
        seed: Of the sample.
        rows: What is to be asked of it: names of criteria, perhaps with `` + reconstruction``.
        data: The triplets it is drawn from; all of the test bed by default.
    """

    _last: Sample | None = None

    def __init__(self, domain: str, seed: int, *, rows: Collection[str], data: CalibrationData | None = None) -> None:
        self.domain, self.seed = domain, seed
        self._decided: tuple[tuple[str, str], Pruning] | None = None
        self.recipe = Recipe.build(RECIPE, {"seed": seed})
        self.model = load_model(demo_model(), device="cpu", max_length=RECIPE["max_length"])
        folder = testbed() / "calibration"
        if data is None:
            read = (read_triplets(folder / f"{kind}.jsonl") for kind in (domain, "general"))
            data = CalibrationData(*read, frozenset(("domain", "general")))
        self.rows = rows
        self.calibration: Calibration = draw_calibration(self.model, self.recipe, data)

    @classmethod
    def of(cls, domain: str, seed: int, rows: Collection[str]) -> Sample:
        """Return the sample; the last one is kept."""
        last = cls._last
        if last is None or (last.domain, last.seed) != (domain, seed):
            cls._last = last = None
            gc.collect()
            cls._last = last = cls(domain, seed, rows=rows)
        return last

    @cached_property
    def statistics(self) -> tuple[Any, Any]:
        """All that any row looks at, on domain and on general data."""
        needs = Needs.together(
            needs_of(create(row.removesuffix(" + reconstruction")), {"weights"})
            for row in self.rows
            if row not in WIDTH_ONLY
        )
        chosen = select(linear_layers(self.model), ["all"])
        return measure_both(self.calibration, self.model, chosen, needs, self.recipe, {})

    def pruned(self, setting: str, row: str) -> tuple[SentenceTransformer, Any]:
        """Return the model of one cell, and the report of the reconstruction."""
        name = row.removesuffix(" + reconstruction")
        if setting == "dense":
            return self.model, None
        if setting == WIDTH:
            options = {"criterion": name, "reconstruct": row != name, "seed": self.seed}
            result = gaprune.prune(
                self.model,
                domain=self.calibration.domain,
                general=self.calibration.general,
                recipe=options | SETTINGS[setting],
            )
            return result.model, result.provenance().as_dict()["method"]["reconstruction"]
        recipe = Recipe.build(RECIPE, {"seed": self.seed}, SETTINGS[setting])
        pruning = self.decided(setting, name)
        if row == name:
            return apply(self.model, pruning), None
        model, report = reconstruct(
            self.model,
            Start(self.model),
            pruning.keep,
            lambda each, own: apply(each, pruning, inplace=own),
            self.calibration,
            recipe,
        )
        return model, report.model_dump(mode="json")

    def decided(self, setting: str, name: str) -> Pruning:
        """Return what goes by a criterion; the last answer is kept for the row with reconstruction."""
        if self._decided is None or self._decided[0] != (setting, name):
            recipe = Recipe.build(RECIPE, {"seed": self.seed}, SETTINGS[setting])
            chosen = select(linear_layers(self.model), recipe.targets)
            scores = score(
                chosen, create(name), name, domain=self.statistics[0], general=self.statistics[1], seed=self.seed
            )
            weights = {matrix.name: matrix.module.weight.detach() for matrix in chosen}
            found = scores.decide(weights, sparsity=recipe.sparsity[0], pattern=recipe.pattern)
            self._decided = (setting, name), found
        return self._decided[1]


@cache
def tasks(folder: str) -> list[Task]:
    """Return the tasks of one kind."""
    return [task for task in find_tasks(testbed() / "evaluation" / folder) if task.name in TASKS[folder]]


def quality(model: SentenceTransformer, chosen: list[Task]) -> dict[str, float]:
    """Return the score of every task."""
    found = evaluate(for_encoding(model), chosen)
    return {each.task: each.value for each in found.scores}


def by_seed(done: dict[Any, Any], domain: str, setting: str, row: str, kind: str = "domain") -> dict[int, float]:
    """Return the mean over tasks of every seed that was run."""
    found = {seed: line for (d, s, r, seed), line in done.items() if (d, s, r) == (domain, setting, row)}
    return {seed: fmean(line["scores"][kind].values()) for seed, line in sorted(found.items())}


def table(domain: str, done: dict[Any, Any]) -> str:
    """Return the Markdown of a domain: a block on its tasks and one on general ones, a row a criterion."""
    parts = []
    for kind in ("domain", "general"):
        dense = by_seed(done, domain, "dense", "dense", kind).get(0, nan)
        rows = []
        for row in dict.fromkeys((*FIRST, *OTHERS, *OF_WIDTH)):
            found = [by_seed(done, domain, setting, row, kind) for setting in SETTINGS]
            if any(found):
                rows.append([row, *(entry(values, dense) for values in found)])
        names = ", ".join(TASKS[domain if kind == "domain" else "general"])
        title = (
            f"### {domain}: mean of {names} ({'its own' if kind == 'domain' else 'general'} tasks), dense {dense:.4f}"
        )
        parts.append(f"{title}\n\n{markdown_table(['criterion', *SETTINGS], rows)}")
    return "\n".join(parts)


def summary(done: dict[Any, Any]) -> str:
    """Return how far `dai` is ahead of the best baseline of each setting, both on the same samples.

    The spread of the mean is that of the means of single samples, of those that all settings were run with.
    """
    rows = []
    for title, ours, rivals in (
        ("mask only", "dai", (*MASK_ONLY, "activation")),
        ("updated", "dai + reconstruction", ("sparsegpt", "sparsegpt-mix", "activation + reconstruction")),
    ):
        leads: list[dict[int, float]] = []
        for domain, setting in product(DOMAINS, SETTINGS):
            mine = by_seed(done, domain, setting, ours)
            ahead = {rival: lead(mine, by_seed(done, domain, setting, rival)) for rival in rivals}
            found = {rival: points for rival, points in ahead.items() if points}
            if found:
                best = min(found, key=lambda rival: fmean(found[rival].values()))
                leads.append(found[best])
                theirs = by_seed(done, domain, setting, best)
                rows.append([title, domain, setting, entry(mine), best, entry(theirs), spread(found[best].values())])
        if leads:
            mean = f"{fmean(fmean(each.values()) for each in leads):+.2f}"
            everywhere = set.intersection(*(set(each) for each in leads))
            if len(everywhere) > 1:
                mean += f" ± {stdev(fmean(each[seed] for each in leads) for seed in everywhere):.2f}"
            rows.append([title, "both", f"mean of {len(leads)}", "", "", "", mean])
    header = ["", "domain", "setting", "dai", "best baseline", "its score", "points ahead"]
    return f"### Ahead of the best baseline\n\n{markdown_table(header, rows)}"


def lead(mine: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    """Return by how many points one is ahead of the other, by seed that both were run with."""
    return {seed: 100 * (mine[seed] - theirs[seed]) for seed in mine if seed in theirs}


def spread(points: Iterable[float]) -> str:
    """Return mean and standard deviation of leads, of one without the latter."""
    found = list(points)
    return f"{fmean(found):+.2f}" + (f" ± {stdev(found):.2f}" if len(found) > 1 else "")


def entry(values: Mapping[int, float], dense: float | None = None) -> str:
    """Return mean, spread over seeds where there are several, and the change against the dense model."""
    if not values:
        return ""
    mean = fmean(values.values())
    deviation = f" ± {stdev(values.values()):.4f}" if len(values) > 1 else ""
    return f"{mean:.4f}{deviation}" + ("" if dense is None else f" ({mean / dense - 1:+.1%})")


if __name__ == "__main__":
    main()
