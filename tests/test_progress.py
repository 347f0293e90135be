"""Progress on stderr: nested bars on a terminal, elsewhere a line every half minute, nothing in quiet blocks."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from gaprune.util import progress
from gaprune.util.progress import Display, is_shown, quiet, say, stage, track


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def plain(clock, monkeypatch):
    """The text that a display writes where there is no terminal."""
    text = io.StringIO()
    monkeypatch.setattr(progress, "_display", Display(lambda: Console(file=text, width=200), clock))
    return text


@pytest.fixture
def terminal(monkeypatch):
    """The text, with its control codes, that a display writes to a terminal."""
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True)
    monkeypatch.setattr(progress, "_display", Display(lambda: console))
    return text


def test_everything_passes_through_in_order(capsys):
    assert list(track([3, 1, 2], "Counting")) == [3, 1, 2]
    assert list(track((each for each in "ab"), "Counting", total=2)) == ["a", "b"]
    assert capsys.readouterr() == ("", ""), "short stages print no lines"


class TestPlainLines:
    def test_one_every_half_minute_with_the_time_left(self, plain, clock):
        for number in track(range(10), "Measuring domain"):
            clock.now += 10
            assert len(plain.getvalue().splitlines()) == (number > 2) + (number > 5) + (number > 8)
        first, second, third, last = plain.getvalue().splitlines()
        assert first == "Measuring domain: 3 of 10; about 70 s left"
        assert second == "Measuring domain: 6 of 10; about 40 s left"
        assert third == "Measuring domain: 9 of 10; about 10 s left"
        assert last == "Measuring domain: done after 2 min"

    def test_what_is_inside_counts_for_the_time_left(self, plain, clock):
        for _ in track(range(2), "Measuring depths"):
            for _ in track(range(4), "Reading texts"):
                clock.now += 10
        assert plain.getvalue().splitlines()[0] == "Measuring depths: 0 of 2, Reading texts: 3 of 4; about 50 s left"
        assert plain.getvalue().splitlines()[-1] == "Measuring depths: done after 80 s"

    def test_no_total(self, plain, clock):
        with stage("Mining negatives") as shown:
            clock.now += 45
            shown.update(3)
        assert plain.getvalue().splitlines()[0] == "Mining negatives; 45 s so far"

    def test_short_stages_of_a_long_one_print_lines(self, plain, clock):
        with stage("Pruning"):
            for _ in range(20):
                for _ in track(range(2), "Encoding"):
                    clock.now += 5
        lines = plain.getvalue().splitlines()
        assert len(lines) == 200 // 30 + 1
        assert lines[0] == "Pruning, Encoding: 2 of 2; 30 s so far"

    def test_a_stage_that_fails_is_not_called_done(self, plain, clock):
        def interrupted():
            with stage("Pruning") as shown:
                clock.now += 45
                shown.update(3)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert plain.getvalue().splitlines() == ["Pruning; 45 s so far"]

    def test_a_step_that_takes_long_prints_lines(self, plain, clock, monkeypatch):
        monkeypatch.setattr(progress, "_EVERY", 0.01)
        with stage("Solving"):
            clock.now += 45
            waits = threading.Event()
            while not plain.getvalue():
                waits.wait(0.001)
        assert plain.getvalue().splitlines()[0] == "Solving; 45 s so far"

    def test_another_name(self, plain, clock):
        with stage("Recovering", total=4) as shown:
            shown.update(description="Recovering (held-out loss 0.5000)")
            clock.now += 3600 * 3
            shown.update(2)
        assert plain.getvalue().splitlines()[0] == "Recovering (held-out loss 0.5000): 2 of 4; about 3.0 h left"

    def test_short_stages_print_nothing(self, plain, clock):
        for _ in range(20):
            for _ in track(range(2), "Encoding"):
                clock.now += 5
        assert plain.getvalue() == ""


class TestBars:
    def test_nested_stages_share_one_display(self, terminal):
        """Rich allows one live display on a console; a second would raise an error."""
        for _ in track(range(2), "Measuring depths"):
            for _ in track(range(3), "Reading texts"):
                say("a remark")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
        assert "Measuring depths" in text
        assert "  Reading texts" in text
        assert text.count("a remark") == 6
        assert "2/2" in text.splitlines()[-1]

    def test_stages_after_another_are_all_left_on_the_screen(self, terminal):
        for name in ("First", "Second"):
            assert list(track([1], name)) == [1]
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
        assert "First" in text
        assert "Second" in text


def test_quiet(plain, clock):
    with quiet():
        assert not is_shown()
        for _ in track(range(3), "Counting"):
            clock.now += 60
        say("a remark")
    assert is_shown()
    assert plain.getvalue() == ""


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


def test_leaving_early(terminal):
    for item in track(range(3), "Counting"):
        if item == 1:
            break
    assert list(track([1], "Again")) == [1]
