"""The paper's Table 1 on our models: half of all MLP weights, one-shot and after 100 steps, from what was measured.

    python benchmarks/paper.py [--write]

Rows come from benchmarks/criteria.py (one-shot, masks alone) and benchmarks/recovery.py (reconstructed where that was
kept, then 100 contrastive steps). This script runs no model: what those have not measured is named as not run. The
table goes to stdout, and with --write into docs/paper.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from statistics import fmean

from gaprune.report.markdown import markdown_table
from recovery import entry
from testbed import DOMAINS, RESULTS, Lines, put_table

ROWS = {
    "not pruned": ("dense", "unpruned"),
    "dai-paper": ("dai-paper", ""),
    "dai": ("dai", "dai 0.5 mlp"),
    "Fisher, domain": ("fisher", ""),
    "Fisher, general": ("fisher-general", ""),
    "magnitude": ("magnitude", "magnitude 0.5 mlp"),
    "random": ("random", "random 0.5 mlp"),
}
"""Name of a row in both sets of results."""

Key = tuple[str, str, str]
"""Domain, name of the row, and kind of tasks."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/paper.md")
    args = parser.parse_args()
    shot, trained = one_shot(), after_steps()
    header = ["all-MiniLM-L6-v2", *(f"{domain}, {kind}" for domain in DOMAINS for kind in (domain, "general"))]
    parts = []
    for title, found, place in (("One-shot", shot, 0), ("After 100 steps", trained, 1)):
        rows = [[name, *cells(found, names[place])] for name, names in ROWS.items()]
        parts.append(f"### {title}\n\n{markdown_table(header, rows)}")
    text = "\n".join(parts)
    sys.stdout.write(text)
    if args.write:
        put_table("paper", text, page="paper.md")


def cells(found: dict[Key, list[float]], name: str) -> list[str]:
    """Return the entries of a row: mean over tasks and seeds, spread, and the change against the dense model."""
    texts = []
    for domain in DOMAINS:
        for kind in ("domain", "general"):
            values, dense = found.get((domain, name, kind)), found[domain, "parent", kind]
            texts.append(f"{entry(values, fmean(dense))}, n = {len(values)}" if values else "not run")
    return texts


def one_shot() -> dict[Key, list[float]]:
    """Return the means of benchmarks/criteria.py at half of the MLP weights by seed."""
    found: dict[Key, list[float]] = defaultdict(list)
    for line in Lines(RESULTS / "criteria.jsonl"):
        domain, setting, row, _ = line["cell"]
        if setting in ("mlp 0.5", "dense"):
            for kind, scores in line["scores"].items():
                for name in (row, *(("parent",) if row == "dense" else ())):
                    found[domain, name, kind].append(fmean(scores.values()))
    return found


def after_steps() -> dict[Key, list[float]]:
    """Return the means of benchmarks/recovery.py after 100 contrastive steps by seed; its parent has no steps."""
    found: dict[Key, list[float]] = defaultdict(list)
    for domain in DOMAINS:
        for line in Lines(RESULTS / f"recovery-{domain}.jsonl"):
            for kind in ("domain", "general"):
                if line["recovery"] == "contrastive":
                    found[domain, line["pruning"], kind].append(line[f"{kind}_mean"])
                elif (line["pruning"], line["recovery"]) == ("unpruned", "no recovery"):
                    found[domain, "parent", kind].append(line[f"{kind}_mean"])
    return found


if __name__ == "__main__":
    main()
