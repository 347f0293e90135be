"""The program as it is called, and files to call it with."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gaprune.cli.app import main
from toys import GENERAL, tasks_folder, triplets_file


@dataclass(frozen=True)
class Outcome:
    """What a call left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON that stdout holds and nothing else."""
        return json.loads(self.out)


@pytest.fixture
def gaprune(monkeypatch, capsys):
    """Call the program with these arguments."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["gaprune", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@dataclass(frozen=True)
class Files:
    """What commands are given."""

    model: Path
    domain: Path
    general: Path
    tasks: Path

    @property
    def data(self) -> tuple[str, ...]:
        """Options that name the calibration data and the device."""
        return ("--domain", str(self.domain), "--general", str(self.general), "--set", "device=cpu")

    @property
    def both(self) -> tuple[str, ...]:
        """The same, for a criterion that looks at both kinds of data."""
        return (*self.data, "--criterion", "dai:general_share=0.2")


@pytest.fixture(scope="session")
def files(folder_of, toy_triplets, tmp_path_factory) -> Files:
    """A tiny model, triplets of either kind and tasks; not to be changed."""
    folder = tmp_path_factory.mktemp("files")
    return Files(
        model=folder_of("bert"),
        domain=triplets_file(folder / "domain.jsonl", toy_triplets),
        general=triplets_file(folder / "general.jsonl", GENERAL),
        tasks=tasks_folder(folder / "tasks"),
    )


@pytest.fixture
def empty(tmp_path) -> Path:
    """An empty folder for outputs."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder
