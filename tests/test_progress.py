"""Progress bars go to stderr, and quiet hides them for its block alone."""

from __future__ import annotations

import threading

import pytest

from gaprune.util.progress import bars, is_shown, quiet, track


def test_everything_passes_through_in_order(capsys):
    assert list(track([3, 1, 2], "Counting")) == [3, 1, 2]
    assert list(track((each for each in "ab"), "Counting", total=2)) == ["a", "b"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Counting" in captured.err
    assert "3/3" in captured.err
    assert "2/2" in captured.err


def test_quiet(capsys):
    with quiet():
        assert not is_shown()
        assert list(track(range(3), "Counting")) == [0, 1, 2]
        assert bars().disable
    assert is_shown()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_quiet_ends_with_its_block_whatever_happens():
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert is_shown()


def test_quiet_only_when_asked_and_nested():
    with quiet(silent=False):
        assert is_shown()
        with quiet():
            assert not is_shown()
            with quiet(silent=False):
                assert is_shown()
            assert not is_shown()


def test_quiet_is_of_this_context():
    seen = []
    with quiet():
        thread = threading.Thread(target=lambda: seen.append(is_shown()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_an_error_of_the_loop_comes_out():
    def loop():
        for item in track(range(3), "Counting"):
            if item == 1:
                raise LookupError(item)

    with pytest.raises(LookupError):
        loop()
    assert list(track([1], "Again")) == [1]


def test_leaving_early():
    for item in track(range(3), "Counting"):
        if item == 1:
            break
    assert list(track([1], "Again")) == [1]
