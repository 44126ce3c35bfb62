"""Time against gap: every method is there, and its name can be read."""

from itertools import combinations

import pytest
from matplotlib.text import Text

from unlearning import plots


def methods_of(axis):
    """Name -> (time, gap, colour, marker) of the labelled points."""
    dots = [bars.lines[0] for bars in axis.containers]
    looks = [(*dot.get_xydata()[0], dot.get_color(), dot.get_marker()) for dot in dots]
    return dict(zip([label.get_text() for label in axis.texts], looks, strict=True))


@pytest.mark.parametrize(("dpi", "together"), [(100, False), (200, False), (100, True)])
def test_20_methods_carry_their_names_over_no_other_name_and_no_point(tables, dpi, together):
    for numbers in tables.values() if together else ():  # all at one spot
        numbers["average_gap", "mean"] = numbers["seconds", "mean"] = 1.0
    figure = plots.trade_off(tables, title="t")
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    for axis in figure.axes:
        found = methods_of(axis)
        assert list(found) == list(tables["class 5"].index[1:-2])
        assert len({look[2:] for look in found.values()}) == 20
        assert found["UNSIR"][2:] == plots.method_style("UNSIR")
        boxes = [Text.get_window_extent(label) for label in axis.texts]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        dots = axis.transData.transform([look[:2] for look in found.values()])
        assert not any(box.padded(3 * dpi / 72).contains(*dot) for box in boxes for dot in dots)
        assert all(axis.bbox.contains(*corner) for box in boxes for corner in box.corners())


def test_time_is_of_retraining_other_rows_are_lines_and_a_gap_of_zero_is_drawn(small):
    small["seconds", "mean"], small["zrf", "mean"] = [9.0, 5.0, 9.0, 10.0], [0.2, 0.0, 0.1, 0.0]
    tables = {"random 10%": small.drop("UNSIR"), "class 5": small}  # UNSIR needs whole classes
    empty, axis = plots.trade_off(tables, title="t", column="zrf").axes
    assert methods_of(axis)["UNSIR"][:2] == pytest.approx((50, 0.05)) and not methods_of(empty)
    lines = {line.get_linestyle(): line.get_ydata()[0] for line in axis.lines}
    assert (lines["--"], lines[":"]) == pytest.approx((0.2, 0.1))
    low, high = axis.get_ylim()
    assert low < 0.05 and high > 0.2 and empty.get_ylim() == (low, high)
