"""``gaprune report``: the page is written again and opened, and other folders are refused."""

from __future__ import annotations

import typer

import provenances


def test_the_page_is_written_and_opened(gaprune, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(typer, "launch", lambda page: opened.append(page) or len(opened) - 1)
    provenances.structured().write(tmp_path)
    page = tmp_path / "report.html"
    done = gaprune("report", tmp_path)
    assert (done.code, opened) == (0, [])
    assert str(page) in done.out
    assert "times smaller than its parent" in done.out
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "yourself" not in gaprune("report", tmp_path, "--open").out
    assert "yourself" in gaprune("report", tmp_path, "--open").out
    assert opened == [str(page)] * 2


def test_a_folder_that_gaprune_did_not_make(gaprune, tmp_path):
    done = gaprune("report", tmp_path)
    assert done.code == 2
    assert "gaprune.json" in done.err
    assert not list(tmp_path.iterdir())
