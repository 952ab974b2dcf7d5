"""The command ``landscape``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from invariant_sharpness.cli.failures import explained, writing_files
from invariant_sharpness.cli.options import Picture, Seed, Target
from invariant_sharpness.cli.output import console, working
from invariant_sharpness.evaluation.targets import load_oracle
from invariant_sharpness.landscapes import balanced_directions, filter_normalized_directions, loss_landscape
from invariant_sharpness.plotting import new_figure

_DIRECTIONS = {"invariant": balanced_directions, "filter": filter_normalized_directions}


def landscape(
    target: Target,
    *,
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
        oracle = load_oracle(target)
        directions = _DIRECTIONS[coordinates](oracle, dimensions, seed=seed)
        found = loss_landscape(oracle, directions, extent=extent, points=points)
    numbers = output.with_suffix(".json")
    with writing_files():
        found.plot(axes).figure.canvas.print_figure(output)
        settings = {"coordinates": coordinates, "seed": seed}
        numbers.write_text(json.dumps(settings | found.to_dict()) + "\n", encoding="utf-8")
    console().print(f"loss {found.center:.6g} at the parameters; picture in {output}, numbers in {numbers}")
