"""What README and docs say can be done: links lead somewhere, options exist, examples run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

import gaprune
from gaprune.cli.app import app
from gaprune.config.files import load_recipe
from gaprune.config.recipe import Recipe
from gaprune.criteria import registry

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
FOREIGN = {
    "--help",
    "--multi_gpu", "--num_processes", "--nproc-per-node", "--no-python", "--cpu",  # of torchrun and accelerate
    "--write", "--model", "--models", "--minutes", "--kills", "--domain", "--shapes", "--sizes",
    "--ablation", "--quality", "--mpnet", "--speedups",  # of benchmarks
    "--spec",  # of pipx
    "--model-id", "--embeddings",  # of text-embeddings-inference and llama.cpp
}  # fmt: skip


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def blocks(page: Path, language: str) -> list[str]:
    """Return the code of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def options() -> set[str]:
    """Return every option of every command."""

    def of(command) -> set[str]:
        own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return own.union(*map(of, getattr(command, "commands", {}).values()))

    return of(typer.main.get_command(app))


def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def test_options_exist(page):
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", page.read_text(encoding="utf-8")))
    assert named - options() - FOREIGN == set()


def test_the_recipe_can_be_loaded(tmp_path):
    (text,) = blocks(ROOT / "docs" / "usage.md", "yaml")
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    recipe = Recipe.build(load_recipe(tmp_path / "run.yaml"))
    assert recipe.sparsity == (0.3, 0.5)
    assert recipe.columns == {"query": "title", "positive": "body"}
    assert recipe.recovery == {"distil": True}


def test_the_criterion_prunes(monkeypatch, bert):
    monkeypatch.setattr(registry, "_registered", registry.available())
    (code,) = blocks(ROOT / "docs" / "usage.md", "python")
    exec(code, {"__name__": "page"})  # noqa: S102 (our own page)
    result, same = (gaprune.prune(bert, criterion=name, sparsity=0.5) for name in ("cubed", "magnitude"))
    for name, weight in result.model.state_dict().items():
        assert weight.equal(same.model.state_dict()[name])


def test_extras_exist(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"extra `([a-z0-9]+)`", text) + re.findall(r"pip install '(?:gaprune|\.)\[([a-z0-9]+)\]'", text)
    assert set(named) <= project["optional-dependencies"].keys()
