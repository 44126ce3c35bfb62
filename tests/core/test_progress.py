"""core.progress: one line for all that runs, nothing afterwards, nothing where nobody looks."""

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


def test_steps_of_the_same_unit_are_counted_by_the_outer_bar(shown):
    with Progress("all methods", 6, unit="networks") as outer:
        for _ in range(2):
            with Progress("fine-tuning", 3, done=1, unit="networks") as inner:
                inner.update(2)
        assert (outer.done, outer.bar.n, outer.bar.initial) == (6, 6, 2)
    assert "6/6 networks" in shown()


def test_nothing_is_drawn_where_nobody_looks(capfd):
    with Progress("training", 2) as bar:
        bar.update()
    assert capfd.readouterr() == ("", "")
    assert not progress.in_notebook()
