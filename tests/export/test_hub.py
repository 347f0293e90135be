"""Uploads to the hub: what is sent, with a stand-in for the hub itself, and how a refusal is told."""

from __future__ import annotations

from types import SimpleNamespace

import httpx2 as httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

import gaprune
from gaprune.errors import ModelError, OutputError
from gaprune.export.hub import push


@pytest.fixture
def hub(monkeypatch):
    """A hub that keeps what it is sent; names in ``taken`` exist already."""
    kept = SimpleNamespace(files={}, taken=set(), branches=[], private=None)

    class Hub:
        def create_repo(self, name, *, private, exist_ok):
            if name in kept.taken and not exist_ok:
                request = httpx.Request("POST", "https://hub/create")
                raise HfHubHTTPError("409 Conflict: it exists", response=httpx.Response(409, request=request))
            kept.private = private
            return SimpleNamespace(repo_id=name if "/" in name else f"me/{name}")

        def create_branch(self, *, repo_id, branch, exist_ok):
            assert exist_ok
            kept.branches.append(branch)

        def upload_folder(self, *, folder_path, ignore_patterns, **_):
            files = [file for file in folder_path.rglob("*") if file.is_file() and file.name not in ignore_patterns]
            kept.files |= {file.relative_to(folder_path).as_posix(): file.read_bytes() for file in files}

        def upload_file(self, *, repo_id, path_or_fileobj, path_in_repo, **_):
            kept.files[path_in_repo] = path_or_fileobj
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return kept


def test_a_folder_as_it_is_with_the_name_in_its_card(bert, tmp_path, hub):
    out = gaprune.prune(bert, criterion="magnitude", sparsity=0.5).save(tmp_path / "out")
    (out / "queries.json").write_text("{}")
    assert push(out, "me/small", revision="try") == "https://hub/me/small/commit/1"
    sent = {name: content for name, content in hub.files.items() if name != "README.md"}
    files = {file.relative_to(out).as_posix(): file for file in out.rglob("*") if file.is_file()}
    others = {"README.md", "report.html", "queries.json"}
    assert sent == {name: file.read_bytes() for name, file in files.items() if name not in others}
    assert b'SentenceTransformer("me/small")' in hub.files["README.md"]
    assert hub.branches == ["try"]


def test_a_result(bert, hub):
    result = gaprune.prune(bert, criterion="magnitude", sparsity=0.5)
    assert result.push_to_hub("small", private=True) == "https://hub/me/small/commit/1"
    assert {"model.safetensors", "gaprune.json", "modules.json", "README.md"} <= hub.files.keys()
    assert hub.private


def test_a_repository_that_exists(bert, tmp_path, hub):
    out = gaprune.prune(bert, criterion="magnitude", sparsity=0.5).save(tmp_path / "out")
    hub.taken.add("me/small")
    with pytest.raises(OutputError, match=r"cannot be uploaded to me/small: .*409.*\n.*--overwrite"):
        push(out, "me/small")
    assert not hub.files
    (out / "queries.json").write_text("{}")
    assert push(out, "me/small", overwrite=True)


def test_a_name_that_cannot_be(bert, tmp_path):
    """By the library itself, before anything is sent; without network any other name fails as well."""
    out = gaprune.prune(bert, criterion="magnitude", sparsity=0.5).save(tmp_path / "out")
    for name in ("a/b/c", "me/small"):
        with pytest.raises(OutputError, match=f"cannot be uploaded to {name}"):
            push(out, name)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelError, match="holds no model with a card"):
        push(tmp_path, "me/small")


def test_no_connection_is_told(bert, tmp_path, hub, monkeypatch):
    out = gaprune.prune(bert, criterion="magnitude", sparsity=0.5).save(tmp_path / "out")

    def unreachable(*_args, **_options):
        raise httpx.ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", unreachable)
    with pytest.raises(OutputError, match="Name or service not known") as caught:
        push(out, "me/small")
    assert "check the name and the connection" in caught.value.remedy
