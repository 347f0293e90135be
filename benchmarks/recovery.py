"""Recovery on the test bed: all-MiniLM-L6-v2, finance and chemistry, 100 steps after pruning.

    python benchmarks/recovery.py [--domain finance] [--seeds 3] [--minutes M] [--write]

A cell is one model, pruned (or not; with reconstruction, as `gaprune prune` does it) and fine-tuned (or not), on all
tasks of its domain and all general ones. Every finished cell is in benchmarks/results/recovery-DOMAIN.jsonl, and a run
continues where another stopped; --minutes begins no cell after so long, --table runs none. Rows for claims come first,
with all seeds. Nothing is chosen on evaluation tasks: benchmarks/tuning.py is what defaults are chosen by. On a shared
machine take OMP_NUM_THREADS=1 and one process a domain, not two threads that wait for each other; pruned models lie in
--work, for all of a domain and seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import gaprune
from gaprune.config.recovery import RecoveryOptions
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.models.demo import demo_model
from gaprune.models.load import load_model
from gaprune.report.markdown import markdown_table
from testbed import DOMAINS, RESULTS, Lines, for_encoding, machine, put_table, testbed

MAX_LENGTH = 64
PRUNINGS: dict[str, dict[str, Any]] = {
    "unpruned": {},
    "dai 0.5 mlp": {"criterion": "dai", "sparsity": 0.5, "targets": "mlp"},
    "dai 0.5 all": {"criterion": "dai", "sparsity": 0.5, "targets": "all"},
    "magnitude 0.5 mlp": {"criterion": "magnitude", "sparsity": 0.5, "targets": "mlp"},
    "magnitude 0.5 all": {"criterion": "magnitude", "sparsity": 0.5, "targets": "all"},
    "random 0.5 mlp": {"criterion": "random", "sparsity": 0.5, "targets": "mlp"},
    "random 0.5 all": {"criterion": "random", "sparsity": 0.5, "targets": "all"},
    "width 0.5": {"width": 0.5},
    "depth -2": {"depth": 2},
    "width 0.5, depth -2": {"width": 0.5, "depth": 2},
}
CALIBRATION = {"triplets": 512, "max_length": MAX_LENGTH, "device": "cpu"}
COMMON = {
    "steps": 100,
    "batch_size": 32,
    "max_length": MAX_LENGTH,
    "bf16": True,
    "triplets": 3600,  # of which a few are held out, so that no triplet comes twice in 100 steps of 32
    "evaluate_every": 50,
    "held_out": 0.04,
    "device": "cpu",
}
RECOVERIES: dict[str, dict[str, Any]] = {
    "no recovery": {},
    "contrastive": {"general_share": 0.0},
    "contrastive + distil, general 0.25": {"distil": True, "general_share": 0.25},
    "distil alone, general 0.25": {"distil": True, "contrastive_weight": 0, "general_share": 0.25},
    "fixed targets, alignment 10": {
        "distil": True, "fixed_targets": True, "embedding_weight": 10, "similarity_weight": 0, "general_share": 0.0,
    },
}  # fmt: skip
PLAIN, CONTRASTIVE, MIXED, DISTILLED, ALIGNED = RECOVERIES
FIRST = (
    ("unpruned", PLAIN),
    ("unpruned", CONTRASTIVE),  # the control: the parent with the same steps
    ("dai 0.5 mlp", CONTRASTIVE),
    ("width 0.5", CONTRASTIVE),
    ("magnitude 0.5 mlp", CONTRASTIVE),
    ("random 0.5 mlp", CONTRASTIVE),
    ("magnitude 0.5 all", CONTRASTIVE),
    ("random 0.5 all", CONTRASTIVE),
    ("dai 0.5 mlp", DISTILLED),
    ("dai 0.5 all", CONTRASTIVE),
    ("depth -2", CONTRASTIVE),
    ("dai 0.5 mlp", PLAIN),
    ("width 0.5", PLAIN),
    ("dai 0.5 all", PLAIN),
    ("depth -2", PLAIN),
)
"""Pruning and recovery that claims are about: all seeds of these before the others."""
OTHERS = (
    ("depth -2", MIXED),
    ("dai 0.5 mlp", MIXED),
    ("unpruned", MIXED),
    ("width 0.5", MIXED),
    ("dai 0.5 all", MIXED),
    ("width 0.5", DISTILLED),
    ("depth -2", DISTILLED),
    ("dai 0.5 all", DISTILLED),
    ("unpruned", DISTILLED),
    ("magnitude 0.5 mlp", PLAIN),
    ("random 0.5 mlp", PLAIN),
    ("magnitude 0.5 all", PLAIN),
    ("random 0.5 all", PLAIN),
)

Cell = tuple[str, str, str, int]


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="samples of the triplets")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    parser.add_argument("--table", action="store_true", help="run nothing, show what is there")
    parser.add_argument("--domain", choices=DOMAINS, help="this domain alone")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gaprune-recovery")
    args = parser.parse_args()
    args.end = time.monotonic() + (0 if args.table else 60 * args.minutes)
    domains = (args.domain,) if args.domain else DOMAINS
    text = compare(args, domains)
    sys.stdout.write(text)
    if args.write:
        put_table("recovery", text)


def cells(domains: tuple[str, ...], seeds: int) -> Iterator[Cell]:
    """Yield every cell in the order it is run; the untouched parent has one seed."""
    for rows, seed in product((FIRST, OTHERS), range(seeds)):
        for (pruning, recovery), domain in product(rows, domains):
            if seed == 0 or (pruning, recovery) != ("unpruned", PLAIN):
                yield domain, pruning, recovery, seed


def compare(args: argparse.Namespace, domains: tuple[str, ...]) -> str:
    """Fill what is missing and return the table."""
    files = {domain: Lines(RESULTS / f"recovery-{domain}.jsonl") for domain in domains}
    done = {key(line): line for lines in files.values() for line in lines if is_current(line)}
    missing = [cell for cell in cells(domains, args.seeds) if cell not in done]
    for cell in missing:
        if time.monotonic() >= args.end:
            break
        domain, pruning, recovery, seed = cell
        start = time.process_time()
        model, training = recovered(pruned(args.work, domain, pruning, seed), domain, recovery, seed)
        line = {
            "domain": domain, "pruning": pruning, "recovery": recovery, "seed": seed, "options": told(recovery),
            "training": training, **quality(model, domain), "machine": machine(),
            "processor_seconds": time.process_time() - start,
        }  # fmt: skip
        files[domain].add(line)
        done[cell] = line
        sys.stderr.write(f"{cell}: domain {line['domain_mean']:.4f}, general {line['general_mean']:.4f}\n")
    return "\n".join(table([line for line in done.values() if line["domain"] == domain], domain) for domain in domains)


def key(line: dict[str, Any]) -> Cell:
    """Return what makes a cell the one it is."""
    return line["domain"], line["pruning"], line["recovery"], line["seed"]


def is_current(line: dict[str, Any]) -> bool:
    """Return whether a cell was made with today's options; one that did not exist then had today's default."""
    defaults = RecoveryOptions.build(COMMON).model_dump(mode="json")
    options = told(line["recovery"])
    return all(line["options"].get(name, defaults.get(name)) == value for name, value in options.items())


def told(recovery: str) -> dict[str, Any]:
    """Return all that a recovery is told; cells made with other options are made again."""
    if recovery == PLAIN:
        return {}
    where = {"model", "domain", "general", "out", "teacher_cache", "checkpoint", "device"}
    options = RecoveryOptions.build(COMMON, RECOVERIES[recovery])
    return options.model_dump(mode="json", exclude=where) | {
        "learning_rate": options.rate, "hard_negatives": options.own_negatives,
    }  # fmt: skip


def pruned(work: Path, domain: str, pruning: str, seed: int) -> Path:
    """Return the folder of a pruned model, made once."""
    if pruning == "unpruned":
        return Path(demo_model())
    out = work / f"{domain} {pruning} {seed}"
    if not out.exists():
        data = testbed() / "calibration"
        gaprune.prune(
            demo_model(), domain=data / f"{domain}.jsonl", general=data / "general.jsonl", seed=seed, out=out,
            recipe={**CALIBRATION, **PRUNINGS[pruning]},
        )  # fmt: skip
    return out


def recovered(folder: Path, domain: str, recovery: str, seed: int, **more: Any) -> tuple[Any, Any]:
    """Return the model of a cell and how its training went."""
    if recovery == PLAIN:
        return load_model(folder, device="cpu"), None
    data = testbed() / "calibration"
    options = {**COMMON, **RECOVERIES[recovery], **more}
    if options["general_share"]:
        options["general"] = data / "general.jsonl"
    if options.get("distil"):
        options |= {"parent": demo_model()}
    result = gaprune.recover(folder, domain=data / f"{domain}.jsonl", seed=seed, **options)
    return result.model, result.training.model_dump(mode="json")


def quality(model: Any, domain: str) -> dict[str, Any]:
    """Return the scores in the tasks of the domain and in general ones."""
    model.max_seq_length = MAX_LENGTH
    found = {}
    for kind, folder in (("domain", domain), ("general", "general")):
        tasks = find_tasks(testbed() / "evaluation" / folder)
        scores = {score.task: score.value for score in gaprune.evaluate(for_encoding(model), tasks=tasks).scores}
        found |= {f"{kind}_scores": scores, f"{kind}_mean": fmean(scores.values())}
    return found


def table(lines: list[dict[str, Any]], domain: str) -> str:
    """Return the Markdown of a domain: a row for each pruning and recovery, changes against the dense parent."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault((line["pruning"], line["recovery"]), []).append(line)
    dense = found.get(("unpruned", PLAIN))
    rows = []
    for pruning, recovery in product(PRUNINGS, RECOVERIES):
        here = found.get((pruning, recovery))
        if here and dense:
            values = [entry([x[mean] for x in here], dense[0][mean]) for mean in ("domain_mean", "general_mean")]
            rows.append([pruning, recovery, str(len(here)), *values])
    return f"### {domain}\n\n{markdown_table(['pruning', 'recovery', 'seeds', domain, 'general'], rows)}"


def entry(means: list[float], dense: float) -> str:
    """Return mean, spread over seeds where there are several, and the change against the dense parent."""
    spread = f" ± {stdev(means):.4f}" if len(means) > 1 else ""
    return f"{fmean(means):.4f}{spread} ({fmean(means) / dense - 1:+.1%})"


if __name__ == "__main__":
    main()
