"""The command ``certify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invariant_sharpness.cli.failures import FAILED, explained, writing_files
from invariant_sharpness.cli.options import AsJson, MetricNames, Seed, Target, names_in, picture_file
from invariant_sharpness.cli.output import console, working
from invariant_sharpness.evaluation.certifying import certify as certify_oracle
from invariant_sharpness.evaluation.targets import load_oracle


def certify(
    target: Target,
    *,
    metrics: MetricNames = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Also draw how far each metric moved. A .png, .pdf or .svg file.",
            callback=picture_file,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Test what metrics claim on a model of your own.

    Finds all rescalings that leave the model's function alone, applies them, and measures before and after.
    TARGET is imported and run, as by python. The exit code is 1 if a claim fails.
    """
    with explained(), working():
        certificate = certify_oracle(load_oracle(target), names_in(metrics), seed=seed)
    if as_json:
        typer.echo(certificate.to_json())
    else:
        console().print(certificate.table())
    if plot is not None:
        with explained(), writing_files():
            certificate.plot().figure.canvas.print_figure(plot)
    raise typer.Exit(FAILED if certificate.failed else 0)
