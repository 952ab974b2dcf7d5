"""The commands that measure a model of the user's: ``measure``, ``certify`` and ``landscape``."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from invariant_sharpness.cli.options import (
    AsJson,
    Budget,
    CsvFile,
    HtmlFile,
    LossName,
    MetricNames,
    Picture,
    Precision,
    Probes,
    Seed,
    Target,
    in_existing_folder,
    model_options,
    names_in,
    picture_file,
)
from invariant_sharpness.cli.terminal import FAILED, console, explained, working, writing_files
from invariant_sharpness.evaluation.certifying import certify as certify_oracle
from invariant_sharpness.evaluation.measuring import measure as measure_oracle
from invariant_sharpness.evaluation.planning import MeasurementPlan
from invariant_sharpness.evaluation.planning import plan as plan_oracle
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.evaluation.targets import load_oracle
from invariant_sharpness.landscapes import balanced_directions, filter_normalized_directions, loss_landscape
from invariant_sharpness.plotting import new_figure
from invariant_sharpness.results.export import strict_json
from invariant_sharpness.runtime.checkpoints import checkpoint

_DIRECTIONS = {"invariant": balanced_directions, "filter": filter_normalized_directions}


def measure(
    target: Target,
    *,
    loss: LossName = None,
    dtype: Precision = None,
    metrics: MetricNames = None,
    seed: Seed = 0,
    probes: Probes = 64,
    budget: Budget = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Keep the state of the run in this folder after every step, and go on from it if it is there.",
            callback=in_existing_folder,
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what it will cost, in gradients, minutes and memory, and measure nothing."),
    ] = False,
    as_json: AsJson = False,
    csv: CsvFile = None,
    html: HtmlFile = None,
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
    given = {"--resume": resume, "--csv": csv, "--html": html, "--plot": plot}
    if plan and any(path is not None for path in given.values()):
        useless = ", ".join(name for name, path in given.items() if path is not None)
        msg = f"nothing is measured, so that there is nothing for {useless}: leave it out, or leave out --plan."
        raise typer.BadParameter(msg, param_hint="--plan")
    with explained(), working():
        if plot is not None:
            new_figure(1, 1)  # if matplotlib is missing, this shall be known before the measurement
        oracle = load_oracle(target, **model_options(loss, dtype))
        chosen = names_in(metrics)
        found: Report | MeasurementPlan
        if plan:
            found = plan_oracle(oracle, chosen, seed=seed, probes=probes, budget=budget)
        else:
            with nullcontext() if resume is None else checkpoint(resume, oracle):
                found = measure_oracle(oracle, chosen, seed=seed, probes=probes, budget=budget)
    if as_json:
        typer.echo(strict_json({"target": target} | found.to_dict(), indent=2))
    else:
        console().print(found.table())
    if isinstance(found, Report):
        _write(found, csv, html, plot)


def certify(
    target: Target,
    *,
    loss: LossName = None,
    dtype: Precision = None,
    metrics: MetricNames = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    html: HtmlFile = None,
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
        certificate = certify_oracle(load_oracle(target, **model_options(loss, dtype)), names_in(metrics), seed=seed)
    if as_json:
        typer.echo(strict_json({"target": target} | certificate.to_dict()))
    else:
        console().print(certificate.table())
    with explained(), writing_files():
        if html is not None:
            certificate.to_html(html)
        if plot is not None:
            certificate.plot().figure.canvas.print_figure(plot)
    raise typer.Exit(FAILED if certificate.failed else 0)


def landscape(
    target: Target,
    *,
    loss: LossName = None,
    dtype: Precision = None,
    output: Picture = Path("landscape.png"),
    coordinates: Annotated[
        Literal["invariant", "filter"],
        typer.Option(
            help="Directions in balanced coordinates, which a rescaling of hidden units does not see, or filter-normalized "
            "ones (Li et al. 2018), which it changes."
        ),
    ] = "invariant",
    dimensions: Annotated[int, typer.Option(help="A curve or a plane.", min=1, max=2)] = 2,
    extent: Annotated[float, typer.Option(help="How far to go, in lengths of the weights.", metavar="R")] = 1.0,
    points: Annotated[int, typer.Option(help="Points along each direction, an odd number.", min=3, metavar="N")] = 25,
    seed: Seed = 0,
) -> None:
    """Draw the loss around a model's parameters.

    TARGET is imported and run, as by python. The picture goes to --output, and its numbers to a .json file beside it.
    """
    if points % 2 == 0:
        msg = f"{points} is even: only an odd number of points has the parameters in its middle."
        raise typer.BadParameter(msg, param_hint="--points")
    if not 0 < extent < float("inf"):
        msg = f"{extent} is not positive and finite."
        raise typer.BadParameter(msg, param_hint="--extent")
    with explained(), working():
        axes = new_figure(5.2, 4.2).add_subplot()  # if matplotlib is missing, this shall be known before the work
        oracle = load_oracle(target, **model_options(loss, dtype))
        directions = _DIRECTIONS[coordinates](oracle, dimensions, seed=seed)
        found = loss_landscape(oracle, directions, extent=extent, points=points)
    numbers = output.with_suffix(".json")
    with writing_files():
        found.plot(axes).figure.canvas.print_figure(output)
        settings = {"target": target, "coordinates": coordinates, "seed": seed}
        numbers.write_text(json.dumps(settings | found.to_dict()) + "\n", encoding="utf-8")
    console().print(f"loss {found.center:.6g} at the parameters; picture in {output}, numbers in {numbers}")


def _write(report: Report, csv: Path | None, html: Path | None, plot: Path | None) -> None:
    with writing_files():
        if csv is not None:
            csv.write_text(report.to_csv(), encoding="utf-8", newline="")
        if html is not None:
            report.to_html(html)
        if plot is not None:
            _draw(report, plot)


def _draw(report: Report, path: Path) -> None:
    with_shares = [name for name, estimate in report.items() if estimate.per_group]
    preferred = [name for name in ("normalized_sharpness", *with_shares) if name in with_shares]
    if not preferred:
        msg = f"no bars to draw: {', '.join(report)} has no value per parameter group. Add one, such as hessian_trace."
        raise typer.BadParameter(msg, param_hint="--plot")
    report.plot(metric=preferred[0]).figure.canvas.print_figure(path)
