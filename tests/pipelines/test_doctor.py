"""``gaprune doctor`` says what is installed, and how to install what is not."""

import json
from importlib import metadata

import torch
from typer.testing import CliRunner

from gaprune.cli.app import app
from gaprune.pipelines import doctor


def test_versions_are_those_of_the_packages():
    found = {each.topic: each.found for each in doctor.doctor()}
    for package in ("torch", "transformers", "sentence-transformers", "gaprune"):
        assert found[package] == metadata.version(package)
    assert str(torch.get_num_threads()) in found["processor"]


def test_every_extra_is_listed_with_what_it_installs():
    found = {each.topic.removeprefix("extra "): each for each in doctor.doctor() if each.topic.startswith("extra ")}
    declared = set(metadata.metadata("gaprune").get_all("Provides-Extra")) - {"dev", "docs"}
    assert found.keys() == declared
    assert metadata.version("peft") in found["lora"].found
    assert not found["lora"].remedy


def test_an_extra_that_is_missing_says_how_to_install_it(monkeypatch):
    installed = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "peft" else installed(package))
    (found,) = (each for each in doctor.doctor() if each.topic == "extra lora")
    assert "peft" in found.found
    assert found.remedy == "pip install 'gaprune[lora]'"


def test_the_command_prints_json():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert {"topic", "found", "remedy"} == set(json.loads(result.stdout)[0])
