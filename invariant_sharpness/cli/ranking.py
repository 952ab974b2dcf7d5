"""The command ``rank``: how well measures order the generalization gaps of a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invariant_sharpness.cli.options import AsJson, Seed, in_existing_folder, names_in, picture_file
from invariant_sharpness.cli.terminal import console, explained, writing_files
from invariant_sharpness.evaluation.ranking import rank as rank_measures
from invariant_sharpness.plotting import new_figure
from invariant_sharpness.results.export import strict_json


def rank(
    ledger: Annotated[
        Path,
        typer.Argument(
            help="A .csv, .json or .jsonl file (also .gz) with a row for each trained network.",
            metavar="LEDGER",
            show_default=False,
        ),
    ],
    *,
    hyperparameters: Annotated[
        str, typer.Option(help="Columns that make the configuration, with commas between them.", metavar="A,B,...")
    ],
    gap: Annotated[str, typer.Option(help="Column of the generalization gap.", metavar="COLUMN")] = "gap",
    measures: Annotated[
        str | None,
        typer.Option(
            help="Columns to rank, with commas between them.", show_default="all other numbers", metavar="A,B,..."
        ),
    ] = None,
    repeats: Annotated[
        str, typer.Option(help="Column that tells networks of one configuration apart; empty for none.")
    ] = "seed",
    test_error: Annotated[
        str | None,
        typer.Option(help="Column of the test error, for the fragility.", show_default="the gap", metavar="COLUMN"),
    ] = None,
    smallest_environment: Annotated[
        float, typer.Option(help="Smallest effective number of pairs of networks in an environment.", metavar="N")
    ] = 12,
    test_examples: Annotated[
        int, typer.Option(help="Number of examples that the gaps were measured on.", min=1, metavar="N")
    ] = 10_000,
    resamples: Annotated[int, typer.Option(help="Number of resampled ledgers.", min=1, metavar="N")] = 500,
    seed: Seed = 0,
    as_json: AsJson = False,
    csv: Annotated[
        Path | None,
        typer.Option(help="Also write the statistics to this file.", callback=in_existing_folder, dir_okay=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Also draw the distribution of sign errors. A .png, .pdf or .svg file.",
            callback=picture_file,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Rank measures by how well they order the generalization gaps of trained networks."""
    with explained():
        ranking = rank_measures(
            ledger,
            names_in(measures),
            gap=gap,
            hyperparameters=names_in(hyperparameters) or [],
            repeats=repeats or None,
            test_error=test_error,
            smallest_environment=smallest_environment,
            test_examples=test_examples,
            resamples=resamples,
            seed=seed,
        )
    if as_json:
        typer.echo(strict_json({"ledger": str(ledger)} | ranking.to_dict()))
    else:
        console().print(ranking.table())
    with explained(), writing_files():
        if csv is not None:
            csv.write_text(ranking.to_csv(), encoding="utf-8", newline="")
        if plot is not None:
            figure = new_figure(6.4, 4.4)
            ranking.plot(figure.add_subplot())
            figure.savefig(plot)
