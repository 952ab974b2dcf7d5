"""The command ``measure``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from invariant_sharpness.cli.failures import explained, writing_files
from invariant_sharpness.cli.options import AsJson, MetricNames, Seed, Target, names_in, picture_file
from invariant_sharpness.cli.output import console, in_existing_folder, working
from invariant_sharpness.evaluation.measuring import measure as measure_oracle
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.evaluation.targets import load_oracle
from invariant_sharpness.runtime.checkpoints import checkpoint


def measure(
    target: Target,
    *,
    metrics: MetricNames = None,
    seed: Seed = 0,
    probes: Annotated[
        int, typer.Option(help="Hessian-vector products for each quantity that has to be sampled.", min=4, metavar="N")
    ] = 64,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Keep the state of the run in this folder after every step, and go on from it if it is there.",
            callback=in_existing_folder,
        ),
    ] = None,
    as_json: AsJson = False,
    csv: Annotated[
        Path | None,
        typer.Option(help="Also write the report to this file.", callback=in_existing_folder, dir_okay=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Also draw the share of each parameter group, in normalized_sharpness if it was measured, else in "
            "the first metric that has shares. A .png, .pdf or .svg file.",
            callback=picture_file,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Measure how sharp a model is.

    TARGET is imported and run, as by python. What it prints goes to stderr; stdout carries the report alone.
    """
    with explained(), working():
        if plot is not None:
            _require_matplotlib()
        oracle = load_oracle(target)
        with nullcontext() if resume is None else checkpoint(resume, oracle):
            report = measure_oracle(oracle, names_in(metrics), seed=seed, probes=probes)
    if as_json:
        typer.echo(report.to_json())
    else:
        console().print(report.table())
    with writing_files():
        if csv is not None:
            csv.write_text(report.to_csv(), encoding="utf-8", newline="")
        if plot is not None:
            _draw(report, plot)


def _require_matplotlib() -> None:
    """If it is missing, this shall be known before the measurement."""
    from invariant_sharpness.plotting import new_figure

    new_figure(1, 1)


def _draw(report: Report, path: Path) -> None:
    with_shares = [name for name, estimate in report.items() if estimate.per_group]
    preferred = [name for name in ("normalized_sharpness", *with_shares) if name in with_shares]
    if not preferred:
        msg = f"no bars to draw: {', '.join(report)} has no value per parameter group. Add one, such as hessian_trace."
        raise typer.BadParameter(msg, param_hint="--plot")
    report.plot(metric=preferred[0]).figure.canvas.print_figure(path)
