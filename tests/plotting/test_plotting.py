"""Pictures show the numbers they are given, bear any name, and leave pyplot alone."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

import invariant_sharpness as ish
from invariant_sharpness import Estimate, GroupEstimate, Report
from invariant_sharpness.errors import MissingDependencyError
from invariant_sharpness.landscapes import loss_landscape
from invariant_sharpness.plotting import (
    MOST_BARS,
    plot_groups,
    plot_groups_together,
    plot_ratios,
    plot_rescaling,
    plot_rescalings_together,
)
from invariant_sharpness.results.agreement import Difference
from invariant_sharpness_numpy import FunctionOracle


def estimate_of(shares: dict[str, float], standard_error: float | None = None) -> Estimate:
    groups = {name: GroupEstimate(value, "probes", standard_error) for name, value in shares.items()}
    return Estimate("hessian_trace", sum(shares.values()), "64 probes", standard_error, per_group=groups)


CLAIMS = {
    "raw": frozenset[str](),
    "normalized": frozenset({"row_column"}),
    "relative": frozenset({"diagonal"}),
    "layers": frozenset({"layer"}),
}


def report_of(values: dict[str, float]) -> Report:
    estimates = {name: Estimate(name, value, "exact") for name, value in values.items()}
    return Report(estimates, CLAIMS, 0.5, 10, 2, "NetworkOracle", 0, 0.1)


def marks(axes: Axes) -> list[float]:
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]


def colors(axes: Axes) -> list[str]:
    return [line.get_color() for line in axes.lines if line.get_marker() == "o"]


def bars(axes: Axes) -> list[float]:
    return [bar.get_width() for c in axes.containers if isinstance(c, BarContainer) for bar in c.patches]


def row_names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def png_of(axes: Axes) -> bytes:
    target = io.BytesIO()
    axes.figure.canvas.print_figure(target)
    return target.getvalue()


def test_bars_are_the_shares_in_the_order_of_the_model() -> None:
    axes = plot_groups(estimate_of({"a": 2.0, "b": -1.0, "c": 0.5}))
    assert row_names(axes) == ["a", "b", "c"]
    assert bars(axes) == [2.0, -1.0, 0.5]


def test_first_group_is_on_top() -> None:
    bottom, top = plot_groups(estimate_of({"a": 2.0, "b": 1.0})).get_ylim()
    assert bottom > 1 > 0 > top, (bottom, top)


def test_sampled_shares_have_their_error_bars() -> None:
    axes = plot_groups(estimate_of({"a": 2.0, "b": 1.0}, standard_error=0.25))
    container = next(c for c in axes.containers if isinstance(c, BarContainer))
    assert container.errorbar is not None
    segments = container.errorbar.lines[2][0].get_segments()
    assert [tuple(segment[:, 0]) for segment in segments] == [(1.75, 2.25), (0.75, 1.25)], segments


def test_exact_shares_have_no_error_bars() -> None:
    axes = plot_groups(estimate_of({"a": 2.0}))
    assert all(c.errorbar is None for c in axes.containers if isinstance(c, BarContainer))


def test_metric_without_groups_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="hessian_spectral_norm has no value per parameter group"):
        plot_groups(Estimate("hessian_spectral_norm", 1.0, "Lanczos, 9 steps"))


def test_estimates_with_different_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="first, second have different parameter groups"):
        plot_groups_together({"first": estimate_of({"a": 1.0}), "second": estimate_of({"b": 1.0})})


@pytest.mark.parametrize(
    "name", ["x" * 500, "$\\frac{", "a\nb\tc\x00", "<script>", "%s {0}", "", " ", "encoder.layers.11.dense.weight"]
)
def test_any_name_can_be_drawn(name: str) -> None:
    axes = plot_groups(estimate_of({name: 1.0, "other": 2.0}))
    assert png_of(axes).startswith(b"\x89PNG")
    assert all(len(text) <= 48 and text.isprintable() for text in row_names(axes)), row_names(axes)


def test_long_name_leaves_room_for_the_bars() -> None:
    axes = plot_groups(estimate_of({"encoder." * 60 + "weight": 1.0}))
    png_of(axes)
    assert axes.get_position().width > 0.5, axes.get_position()


def test_many_groups_show_the_largest_and_say_so() -> None:
    shares = {f"layer{i}": float(i % 7) + i / 1000 for i in range(200)}
    axes = plot_groups(estimate_of(shares))
    largest = sorted(shares.values())[-MOST_BARS:]
    assert sorted(bars(axes)) == largest
    assert f"the {MOST_BARS} largest of 200 groups" in axes.get_title(loc="left")


def test_marks_of_a_rescaling_are_the_values_after_over_those_before() -> None:
    axes = plot_rescaling(report_of({"raw": 2.0, "normalized": 3.0}), report_of({"raw": 2e7, "normalized": 3.0}))
    assert row_names(axes) == ["raw", "normalized"]
    assert marks(axes) == [1e7, 1.0]
    assert axes.get_xscale() == "log"


def test_bars_of_a_rescaling_go_from_one_to_their_marks() -> None:
    axes = plot_rescaling(report_of({"raw": 2.0}), report_of({"raw": -0.5}))
    ends = [list(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert [1, 0.25] in ends, ends
    assert [text.get_text() for text in axes.texts] == ["-0.25"]


def test_rescalings_of_several_models_stand_together() -> None:
    before = report_of({"raw": 1.0, "normalized": 4.0})
    axes = plot_rescalings_together(
        {
            "true labels": (before, report_of({"raw": 1e7, "normalized": 4.0})),
            "random labels": (before, report_of({"raw": 1e-3, "normalized": 4.0})),
        }
    )
    assert marks(axes) == [1e7, 1e-3, 1.0, 1.0]
    assert {"true labels", "random labels"} <= {text.get_text() for text in axes.get_legend().get_texts()}


@pytest.mark.parametrize(
    ("rescaling", "surviving"),
    [("row_column", ["normalized", "relative"]), ("layer", ["normalized", "relative", "layers"])],
)
def test_metrics_that_claim_to_survive_the_rescaling_have_a_color_of_their_own(
    rescaling: str, surviving: list[str]
) -> None:
    report = report_of(dict.fromkeys(CLAIMS, 1.0))
    color = dict(zip(CLAIMS, colors(plot_rescaling(report, report, rescaling=rescaling)), strict=True))
    assert [name for name in CLAIMS if color[name] != color["raw"]] == surviving, color


def test_unknown_rescaling_is_named() -> None:
    report = report_of({"raw": 1.0})
    with pytest.raises(ValueError, match="rescaling='rows' is not known: take one of 'layer', 'row', 'row_column'"):
        plot_rescaling(report, report, rescaling="rows")


@pytest.mark.parametrize("factor", [0.0, nan, inf, -2.0, 1.0, 1e-300, 1e300])
def test_any_factor_can_be_drawn(factor: float) -> None:
    assert png_of(plot_rescaling(report_of({"raw": 1.0}), report_of({"raw": factor}))).startswith(b"\x89PNG")


def test_reports_with_different_metrics_are_refused() -> None:
    raw, both = report_of({"raw": 1.0}), report_of({"raw": 1.0, "normalized": 1.0})
    with pytest.raises(ValueError, match="before, raw were measured, and after, raw, normalized"):
        plot_rescaling(raw, both)
    with pytest.raises(ValueError, match="the reports of one, other have different metrics"):
        plot_rescalings_together({"one": (raw, raw), "other": (both, both)})


REPORT = report_of({"raw": 1.0})
QUADRATIC = FunctionOracle(
    {"w": np.array([3.0, 4.0])},
    lambda p: float((p["w"] ** 2).sum()),
    lambda p: {"w": 2 * p["w"]},
    lambda _, v: {"w": 2 * v["w"]},
)
PICTURES: dict[str, Callable[[Axes], Axes]] = {
    "plot_groups": lambda axes: plot_groups(estimate_of({"a": 2.0}), axes),
    "plot_groups_together": lambda axes: plot_groups_together({"one": estimate_of({"a": 2.0})}, axes),
    "plot_rescaling": lambda axes: plot_rescaling(REPORT, REPORT, axes),
    "plot_rescalings_together": lambda axes: plot_rescalings_together({"one": (REPORT, REPORT)}, axes),
    "plot_density": lambda axes: ish.spectral_density(QUADRATIC, probes=2, steps=2).plot(axes),
    "plot_landscape": lambda axes: loss_landscape(QUADRATIC, [QUADRATIC.parameters], points=3).plot(axes),
}


@pytest.mark.parametrize("name", PICTURES)
def test_given_axes_are_drawn_on_and_returned_and_others_left_alone(name: str) -> None:
    figure = Figure()
    given, other = figure.subplots(2)
    untouched = len(other.get_children())
    assert PICTURES[name](given) is given
    assert given.has_data(), f"{name} draws nothing"
    assert figure.axes == [given, other], f"{name} adds axes to the figure"
    assert (len(other.get_children()), other.has_data()) == (untouched, False), f"{name} draws on other axes"


def test_pyplot_is_not_imported() -> None:
    code = (
        "import sys; from invariant_sharpness import Estimate, GroupEstimate; "
        "from invariant_sharpness.plotting import plot_groups; "
        "assert 'matplotlib' not in sys.modules; "
        "plot_groups(Estimate('m', 1.0, 'exact', per_group={'w': GroupEstimate(1.0, 'exact')})); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_missing_matplotlib_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"needs matplotlib.*invariant-sharpness\[plot\]"):
        plot_groups(estimate_of({"a": 1.0}))


def test_ratios_are_marks_that_are_filled_where_they_exceed_their_errors() -> None:
    first = {"sure": Difference(2.0, 6.0, 3.5, 4.5), "open": Difference(2.0, 2.5, -0.5, 1.5)}
    axes = plot_ratios({"one": first, "two": {"sure": Difference(2.0, 1.0, -1.5, -0.5)}}, reference="$base")
    found = [line for line in axes.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in found] == [3.0, 1.25, 0.5]
    assert [line.get_markerfacecolor() == "white" for line in found] == [False, True, False]
    intervals = [[float(x) for x in line.get_xdata()] for line in axes.lines if line.get_marker() == "None"]
    assert intervals == [[2.75, 3.25], [0.75, 1.75], [0.25, 0.75], [1.0, 1.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sure", "open"]
    axes.figure.canvas.print_figure(io.BytesIO(), format="png")


@pytest.mark.parametrize("values", [(2.0, -1.0), (0.0, 1.0), (nan, 1.0), (1.0, inf)])
def test_a_ratio_that_has_no_place_has_its_text_alone(values: tuple[float, float]) -> None:
    axes = plot_ratios({"one": {"odd": Difference(*values, -inf, inf)}})
    assert [line for line in axes.lines if line.get_marker() == "o"] == []
    assert len(axes.texts) == 1
    axes.figure.canvas.print_figure(io.BytesIO(), format="png")


def test_a_picture_of_its_own_has_the_signature_and_axes_of_others_have_not() -> None:
    report = Report({"t": estimate_of({"a": 1.0})}, {}, 0.5, 1, 1, "O", 0, 0.1, signature="t v1 exact; seed 0 $x_1$")
    own = report.plot(metric="t").figure
    own.canvas.print_figure(io.BytesIO(), format="png")
    assert own.get_supxlabel() == "t v1 exact; seed 0 $x_1$"
    figure = Figure()
    report.plot(figure.add_subplot(), metric="t")
    assert figure.get_supxlabel() == ""
