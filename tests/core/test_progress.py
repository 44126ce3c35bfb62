"""core.progress: one line for all that runs, nothing afterwards, nothing where nobody looks."""

import os
import sys

import pytest

from unlearning.core import progress
from unlearning.core.progress import Progress


@pytest.fixture
def shown(monkeypatch, capsys):
    """What a notebook would show."""
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "INTERVAL", 0)
    return lambda: capsys.readouterr().out


def test_inner_bars_stand_in_the_line_of_the_outer_one(shown):
    with Progress("all methods", 4, unit="networks"), Progress("fine-tuning", 2, unit="networks"):
        with Progress("training", 10) as training:
            training.update(4)
        assert "fine-tuning, training 40%" in shown()
    end = shown()
    assert "\n" not in end and end.split("\r")[-2].strip() == ""  # it has disappeared


def test_a_title_is_not_repeated(shown):
    with Progress("all methods", 4, unit="networks"), Progress("NegGrad+", 2, unit="networks"):
        with Progress("class 5", 2, unit="networks"), Progress("NegGrad+", 10) as training:
            training.update(4)
        assert "left, NegGrad+, class 5, at 40%" in shown()


def test_steps_of_the_same_unit_are_counted_by_the_outer_bar(shown):
    with Progress("all methods", 6, unit="networks") as outer:
        for _ in range(2):
            with Progress("fine-tuning", 3, done=1, unit="networks") as inner:
                inner.update(2)
        assert (outer.done, outer.bar.n, outer.bar.initial) == (6, 6, 2)
    assert "6/6 networks" in shown()


def test_it_is_drawn_in_a_terminal_that_gives_no_size(monkeypatch):
    here, there = pytest.importorskip("pty").openpty()  # 0 rows, 0 columns
    os.set_blocking(here, False)
    with open(there, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with Progress("training", 2):
            drawn = os.read(here, 1000)
    os.close(here)
    assert b"training: 0/2 steps" in drawn


def test_a_line_is_said_to_who_called_and_not_within_an_experiment(capsys):
    progress.say("12 % dampened")
    with Progress("all methods", 2, unit="networks"):
        progress.say("13 % dampened")
    assert capsys.readouterr().out == "12 % dampened\n"


def test_nothing_is_drawn_where_nobody_looks(capfd):
    with Progress("training", 2) as bar:
        bar.update()
    assert capfd.readouterr() == ("", "")
    assert not progress.in_notebook()
