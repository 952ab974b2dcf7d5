"""The command ``metrics``: all declarations in one table, or one of them in full."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from invariant_sharpness.cli.options import AsJson, known_metric
from invariant_sharpness.cli.plain_text import plain_math, plain_text
from invariant_sharpness.cli.terminal import console
from invariant_sharpness.evaluation.report import strongest_claim
from invariant_sharpness.metrics import METRICS, Metric
from invariant_sharpness.results.export import strict_json
from invariant_sharpness.symmetries import NamedSymmetry


def metrics(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show everything about this metric.", metavar="[NAME]", callback=known_metric, show_default=False
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the metrics: what they measure, what they are invariant under, what they cost."""
    if as_json:
        declared = [_declaration(metric) for metric in METRICS.values()]
        typer.echo(strict_json(declared if name is None else _declaration(METRICS[name])))
    elif name is None:
        console().print(_table())
    else:
        console().print(_page(METRICS[name]))


def _declaration(metric: Metric[...]) -> dict[str, Any]:
    return {
        "name": metric.name,
        "version": metric.version,
        "symbol": metric.symbol,
        "equation": metric.equation,
        "summary": metric.summary,
        "needs": metric.needs,
        "cost": metric.cost,
        "invariances": sorted(metric.invariances),
        "survives": [symmetry.name for symmetry in metric.unchanged_by],
        "up_to_error": sorted(metric.up_to_error),
        "pitfalls": metric.pitfalls,
        "reference": metric.reference,
        "default": metric.default,
    }


def _table() -> Table:
    table = Table(show_lines=True)
    table.add_column("metric", no_wrap=True)
    table.add_column("invariant\nunder", no_wrap=True)
    table.add_column("what it measures, what it costs, where it was defined")
    for metric in METRICS.values():
        claim = strongest_claim(metric.invariances).replace(" ", "\n")
        words = f"{metric.summary}\nCost: {metric.cost}.\n{metric.reference}"
        table.add_row(metric.name, claim, escape(words))
    return table


def _page(metric: Metric[...]) -> Table:
    """Lay out one declaration, a field to a line."""
    fields = {
        "metric": f"{metric.name}, version {metric.version}",
        "what it measures": metric.summary,
        "equation": f"{plain_math(metric.symbol)} = {plain_math(metric.equation)}",
        "needs": metric.needs,
        "cost": metric.cost,
        "invariant under": _headings(metric.unchanged_by),
        "up to its error": _headings(metric.unchanged_up_to_error),
        "changed by": _headings(metric.changed_by),
        "what goes wrong": plain_text(metric.pitfalls),
        "measured by default": "yes" if metric.default else "no",
        "reference": metric.reference,
        "in Python": f"invariant_sharpness.{metric.name}(oracle)",
    }
    page = Table.grid(padding=(0, 2))
    page.add_column(no_wrap=True, style="bold")
    for heading, text in fields.items():
        page.add_row(heading, escape(text))
    return page


def _headings(symmetries: Iterable[NamedSymmetry]) -> str:
    return ", ".join(symmetry.heading for symmetry in symmetries) or "nothing"
