"""Directives that write pages from the declarations of the metrics, so that page and code cannot disagree.

``{metric-table}`` is a table of all metrics; ``{metric} NAME`` is the declaration and the docstring of one; ``{symmetry-table}`` says what is done
to the networks that the metrics are held to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from invariant_sharpness.metrics import METRICS, Metric
from invariant_sharpness.symmetries import SYMMETRIES, NamedSymmetry

COLUMNS = [s for s in SYMMETRIES if s.name in ("layers", "rows_and_columns", "general_linear", "output_scale")]

TESTS = "tests/metrics/test_every_invariance.py"


class MetricTable(SphinxDirective):
    """A table of all metrics with some of what each declares to survive."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        return _parse(self, _list_table(_table_rows(), (26, 14, 28, 8, 8, 8, 8)))


class SymmetryTable(SphinxDirective):
    """A table of all symmetries."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        rows = [["column", "what is done to the network"], *([s.heading, s.change] for s in SYMMETRIES)]
        return _parse(self, _list_table(rows, (20, 80)))


class MetricDeclaration(SphinxDirective):
    """The declaration of one metric, and the docstring of its function."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Make the part of the page."""
        metric = METRICS[self.arguments[0]]
        equation = f".. math:: {metric.symbol} = {metric.equation}\n\n"
        table = _list_table(_declaration_rows(metric), (18, 82), header=False)
        function = f".. autofunction:: invariant_sharpness.{metric.name}\n"
        return _parse(self, equation + table + function)


def _table_rows() -> Iterable[Iterable[str]]:
    yield ["metric", "symbol", "what it measures", *(symmetry.heading for symmetry in COLUMNS)]
    for metric in METRICS.values():
        survives = ["yes" if symmetry in metric.unchanged_by else "no" for symmetry in COLUMNS]
        yield [f":func:`~invariant_sharpness.{metric.name}`", f":math:`{metric.symbol}`", metric.summary, *survives]


def _declaration_rows(metric: Metric[...]) -> Iterable[Iterable[str]]:
    yield ["meaning", metric.summary]
    yield ["needs", metric.needs]
    yield ["cost", metric.cost]
    yield ["survives", _tests(metric, metric.unchanged_by)]
    if metric.up_to_error:
        yield ["stays up to its standard error", _tests(metric, metric.unchanged_up_to_error)]
    yield ["is moved by", _tests(metric, metric.changed_by)]
    yield ["what goes wrong", metric.pitfalls]
    yield ["reference", metric.reference]
    yield ["measured by default", "yes" if metric.default else "no"]


def _tests(metric: Metric[...], symmetries: Iterable[NamedSymmetry]) -> str:
    """Each symmetry with the test that holds the metric to it, as lines of a block within a table."""
    return "\n       ".join(f"| {s.heading}: ``{name_of_test(metric, s)}``" for s in symmetries) or "nothing"


def name_of_test(metric: Metric[...], symmetry: NamedSymmetry) -> str:
    """Name the test that holds the metric to what it declares of this symmetry, as pytest does."""
    if symmetry.name in metric.up_to_error:
        what = "test_metric_stays_up_to_its_error"
    else:
        what = "test_metric_survives" if symmetry in metric.unchanged_by else "test_metric_moves"
    return f"{TESTS}::{what}[{metric.name}-{symmetry.name}]"


def _list_table(rows: Iterable[Iterable[str]], widths: tuple[int, ...], *, header: bool = True) -> str:
    lines = [".. list-table::", f"   :widths: {' '.join(map(str, widths))}"]
    lines += ["   :header-rows: 1", ""] if header else ["   :stub-columns: 1", ""]
    for row in rows:
        lines += [f"   {'* -' if first else '  -'} {cell}" for first, cell in _marked(row)]
    return "\n".join([*lines, "", ""])


def _marked(row: Iterable[str]) -> Iterable[tuple[bool, str]]:
    return ((index == 0, cell) for index, cell in enumerate(row))


def _parse(directive: SphinxDirective, text: str) -> list[nodes.Node]:
    """Parse reStructuredText, the language of the docstrings, within a Markdown page."""
    return directive.parse_text_to_nodes(f"````{{eval-rst}}\n{text}\n````\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("metric-table", MetricTable)
    app.add_directive("symmetry-table", SymmetryTable)
    app.add_directive("metric", MetricDeclaration)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
