"""The command ``compare``: several models of the user's in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invariant_sharpness.cli.options import (
    AsJson,
    Budget,
    CsvFile,
    HtmlFile,
    LossName,
    MetricNames,
    Precision,
    Probes,
    Seed,
    model_options,
    names_in,
    picture_file,
)
from invariant_sharpness.cli.terminal import console, explained, working, writing_files
from invariant_sharpness.evaluation.comparing import compare as compare_oracles
from invariant_sharpness.evaluation.targets import load_oracle
from invariant_sharpness.plotting import new_figure
from invariant_sharpness.results.export import strict_json


def compare(
    targets: Annotated[
        list[str],
        typer.Argument(
            help="Two or more, each as for measure: file.py:name, or 'file.py:name(checkpoint=\"a.pt\")'. They are IMPORTED AND RUN with your "
            "rights. The others are compared with the first.",
            metavar="TARGET TARGET...",
            show_default=False,
        ),
    ],
    *,
    loss: LossName = None,
    dtype: Precision = None,
    metrics: MetricNames = None,
    seed: Seed = 0,
    probes: Probes = 64,
    budget: Budget = None,
    as_json: AsJson = False,
    csv: CsvFile = None,
    html: HtmlFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Also draw the ratio of every metric to that of the first model. A .png, .pdf or .svg file.",
            callback=picture_file,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Compare models of your own, such as two checkpoints.

    Measures all of them with the same seed, and says which differences exceed the errors. What targets print goes to stderr.
    """
    named = _named(targets)
    with explained(), working():
        if plot is not None:
            new_figure(1, 1)  # if matplotlib is missing, this shall be known before the measurement
        oracles = {name: load_oracle(target, **model_options(loss, dtype)) for name, target in named.items()}
        found = compare_oracles(oracles, names_in(metrics), seed=seed, probes=probes, budget=budget)
    if as_json:
        typer.echo(strict_json({"targets": named} | found.to_dict()))
    else:
        console().print(found.table())
    with explained(), writing_files():
        if csv is not None:
            csv.write_text(found.to_csv(), encoding="utf-8", newline="")
        if html is not None:
            found.to_html(html)
        if plot is not None:
            found.plot().figure.canvas.print_figure(plot)


def _named(targets: list[str]) -> dict[str, str]:
    """Name each target by what stands behind the colon, or by all of it where that is not enough."""
    if len(set(targets)) < max(len(targets), 2):
        msg = "give at least two targets, all different."
        raise typer.BadParameter(msg, param_hint="TARGET")
    short = [target.partition(".py:")[2] or target for target in targets]
    return dict(zip(short if len(set(short)) == len(short) else targets, targets, strict=True))
