"""Every command that a page shows is run on tiny files of the names that it uses, or is on a list with the reason."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import create_autospec

import huggingface_hub
import pytest
import typer

import gaprune
from gaprune.cli.app import app, main
from gaprune.cli.commands import COMMANDS
from toys import GENERAL, tasks_folder, triplets_file

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

NOT_RUN = {
    "demo": "takes minutes; `make demo` runs it, tests/cli/test_demo.py its parts",
    "--benchmark": "needs the hub: tests/evaluation/test_mteb_benchmarks.py runs tasks without it",
    "torchrun": "several processes: tests/statistics/test_processes.py, tests/recovery/test_recovery_processes.py",
    "accelerate": "several processes, as torchrun",
    "onnx": "takes 5 s: `export --for tei`, which is run, writes the same graph, and tests/export runs its forms",
    "docker": "other software, from the network: tests/export/test_made_for.py holds the folder to what TEI reads",
    "llama-server": "other software: `make readers` opens such files in llama.cpp",
    "pipx": "installs, with PyTorch: run by hand on 2026-11-28",
    "python3": "makes an environment, as the Makefile does",
    "pip": "installs: tests/test_docs.py holds the names of extras to pyproject.toml",
}  # fmt: skip
"""Words of commands that are only parsed, each with the reason."""

PARENTS = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "demo",
    "MODEL",
    "M",
    "SMALL",
    "parent",
    "parent-folder",
    "PARENT",
)
CHILDREN = ("DIR", "pruned", "smaller", "small", "recovered")
TRIPLETS = (
    "my-triplets.jsonl",
    "mine.jsonl",
    "triplets.jsonl",
    "general-triplets.jsonl",
    "tickets.csv",
    "F/mine.jsonl",
    "src/gaprune/data/sample_texts/triplets/finance.jsonl",
)
TEXTS = ("documents", "handbooks", "my-documents", "my-texts", "PATH")
TASKS = ("tasks", "my-tasks", "T")

SMALLER = {
    "--speedup": ("--set", "parameters=20K"),
    "--tokens": ("--tokens", "1000"),
    "--minutes": ("--tokens", "1000"),
    "shrink --minutes": (),
    "--steps": ("--steps", "2"),
    "--recover": ("--recover", "2"),
    "--depth": ("--depth", "1"),
    "--dimensions": ("--dimensions", "8"),
}
"""Options that cost time, and what takes their place."""
ADDED = {
    "prune": ("--set", "batch_size=8", "--set", "device=cpu"),
    "--width": ("--set", "round_to=4"),
    "--target": ("--set", "round_to=4"),
    "--recover": ("--set", "recovery.batch_size=4", "--set", "recovery.held_out=0.4"),
    "paper": ("--triplets", "6", "--recover", "2", "--set", "recovery.batch_size=4", "--set", "recovery.held_out=0.4"),
    "compare": ("--set", "device=cpu"),
    "recover": ("--batch-size", "4", "--set", "held_out=0.3", "--set", "device=cpu"),
    "shrink": ("--recipe", "quick.yaml"),
    "bench": ("--no-memory", "--rounds", "2", "--threads", "1", "--lengths", "8"),
    "data sample": ("--count", "3"),
}
"""What makes a run small, where a page does not say it."""


WRITING = {"shrink", "prune", "recover", "compare", "export", "data sample", "data from-texts"}


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it."""

    page: str
    words: tuple[str, ...]
    in_block: bool

    @property
    def name(self) -> str:
        two = " ".join(self.words[1:3])
        return two if two in COMMANDS else self.words[1]

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.words[1 + len(self.name.split()) :]

    @property
    def kind(self) -> tuple[str, ...]:
        """Commands of one kind take the same path."""
        values = {"--to", "--criterion", "--set", "--index"}
        words = small(self)
        options = {
            f"{each} {words[place + 1].partition('=')[0]}" if each in values else each
            for place, each in enumerate(words)
            if each.startswith("--") and each != "--int8"  # every form is run by tests/export
        }
        return (self.name, *sorted(options))

    @property
    def is_complete(self) -> bool:
        """Whether it can be run as it stands; running text also names parts of commands."""
        if self.in_block or "--out" in self.words or "--recipe" in self.words:
            return True
        return self.name not in WRITING and bool(self.arguments) and not self.arguments[0].startswith("--")

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        words = (word for word in self.words if word != "demo" or self.name == "demo")  # a model has this name, too
        return next((NOT_RUN[word] for word in words if word in NOT_RUN), None)


def small(shown: Shown) -> list[str]:
    """Return the arguments with what costs time made smaller."""
    if shown.name == "options":
        return list(shown.words[1:])
    words, rest = [], iter(shown.words[1:])
    for word in rest:
        options = SMALLER.get(f"{shown.name} {word}", SMALLER.get(word, (word,)))
        if word not in SMALLER or not {*options} & {*words}:
            words += options
        if word in SMALLER:
            next(rest)
    for key in (shown.name, *shown.arguments):
        words += ADDED.get(key, ())
    return words


def commands() -> list[Shown]:
    """Return every command on the pages and in the help of commands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [
                Shown(page.name, words, True) for line in lines if (words := tuple(shlex.split(line, comments=True)))
            ]
        text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for line in re.findall(r"`(gaprune (?:[^`]|\n)+)`", text):
            found.append(Shown(page.name, tuple(line.replace("…", "").replace("\\|", "|").split()), False))
    for name, function in COMMANDS.items():
        for line in re.findall(r"Example: (.*)", inspect.getdoc(function) or ""):
            found.append(Shown(f"help of {name}", tuple(shlex.split(line)), True))
    return found


SHOWN = commands()
OURS = [each for each in SHOWN if each.words[0] == "gaprune" and each.words[1:] and each.words[1] != "--help"]
KINDS = {each.kind: each for each in reversed(OURS) if each.is_complete and each.reason is None}


def test_pages_have_commands():
    assert len(OURS) > 60
    assert len(KINDS) > 20


def test_other_programs_are_known():
    known = {"gaprune", "make", "python", *NOT_RUN}
    assert {each.words[0] for each in SHOWN} <= known


def test_targets_and_scripts_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for each in SHOWN:
        if each.words[0] == "make":
            assert f"\n{each.words[1]}: " in makefile, each
        if each.words[0] == "python":
            assert (ROOT / each.words[1]).is_file(), each


@pytest.mark.parametrize(
    "shown", sorted(set(OURS), key=lambda each: (each.page, each.words)), ids=lambda each: " ".join(each.words)
)
def test_the_command_line_knows_it(shown):
    """Options and their values are those of the command; what is required may be left out in running text."""
    command = typer.main.get_command(app)
    words = [word.partition("|")[0] for word in shown.words[1:]]
    while words and (group := getattr(command, "commands", None)):
        assert words[0] in group, shown
        command = group[words.pop(0)]
    context = typer.Context(command, resilient_parsing=not shown.in_block)
    rest = command.parse_args(context, list(words)) if words and shown.reason is None else []
    assert rest == [] or shown.in_block


def base(folder: Path, model: Path, triplets) -> Path:
    """Make files of all names that pages use."""
    for name in TRIPLETS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".csv"):
            rows = "".join(f"{each.query};{each.positive}\n" for each in triplets)
            (folder / name).write_text("question;answer\n" + rows, encoding="utf-8-sig")
        else:
            triplets_file(folder / name, GENERAL if "general" in name else triplets)
    for name in PARENTS:
        shutil.copytree(model, folder / name)
    for name in TEXTS:
        (folder / name).mkdir()
        for number, each in enumerate(triplets):
            parts = [f"# {each.query}", f"{each.positive}, and {each.positive} too.", " ".join(each.negatives)]
            (folder / name / f"{number}.md").write_text("\n\n".join(parts * 2), encoding="utf-8")
    for name in TASKS:
        tasks_folder(folder / name)
    gaprune.prune(
        folder / PARENTS[0], criterion="magnitude", width=0.5, round_to=4, out=folder / CHILDREN[0], device="cpu"
    )
    for name in CHILDREN[1:]:
        shutil.copytree(folder / CHILDREN[0], folder / name)
    gaprune.pack(folder / "DIR", folder / "FILE")
    (folder / "run.yaml").write_text("model: MODEL\ndomain: mine.jsonl\nout: from-recipe\n", encoding="utf-8")
    (folder / "quick.yaml").write_text(
        "minutes: 3\nheld_out: 0.3\nprune: {triplets: 4, batch_size: 8, reconstruction_triplets: 4, round_to: 4}\n"
        "recover: {tokens: 1000, steps: 2, batch_size: 4, held_out: 0.4}\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def place(folder_of, toy_triplets, tmp_path_factory) -> Path:
    return base(tmp_path_factory.mktemp("pages"), folder_of("bert"), toy_triplets)


@pytest.mark.usefixtures("few_texts")
@pytest.mark.parametrize("shown", [*KINDS.values()][::-1], ids=lambda each: " ".join(each.words))
def test_it_runs(shown, place, monkeypatch, capsys):
    words = small(shown)
    monkeypatch.chdir(place)
    if "--out" in words:
        out = place / words[words.index("--out") + 1]
        if out.is_dir():
            words[words.index("--out") + 1] = str(out.with_name(f"{out.name}-{abs(hash(shown))}"))
        elif out.exists():
            out.unlink()
    monkeypatch.setattr(sys, "argv", ["gaprune", *words])
    hub = create_autospec(huggingface_hub.HfApi)
    hub.return_value.create_repo.return_value.repo_id = "me/my-model"
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    monkeypatch.setattr(typer, "launch", lambda page: 0)
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    assert not code, capsys.readouterr().err
