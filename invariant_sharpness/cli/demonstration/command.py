"""The command ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invariant_sharpness.adapters.registry import DemonstrationBackend, backend
from invariant_sharpness.cli.demonstration.running import demonstrate
from invariant_sharpness.cli.demonstration.text import print_demonstration
from invariant_sharpness.cli.options import AsJson, Seed
from invariant_sharpness.cli.terminal import console, explained, working, writing_files
from invariant_sharpness.errors import ModelError
from invariant_sharpness.plotting import new_figure
from invariant_sharpness.results.export import strict_json


def demo(
    *,
    backend_name: Annotated[
        str, typer.Option("--backend", help="What trains and differentiates the networks, such as numpy or torch.")
    ] = "numpy",
    output: Annotated[
        Path, typer.Option(help="Folder for sharpness.png and demo.json. It is made if need be.", file_okay=False)
    ] = Path("demo"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """See in a minute what this is about.

    Trains two small networks on scikit-learn's digits, one on true labels and one on random labels, and
    measures how sharp they are. Then rescales their hidden units, which does not change what the networks
    compute, and measures again: raw measures of sharpness explode, normalized ones stay what they were.
    """
    picture, numbers = output / "sharpness.png", output / "demo.json"
    with explained(), working():
        new_figure(1, 1)  # if matplotlib is missing, this shall be known before the training
        chosen = _demonstration_backend(backend_name)
        with writing_files():
            output.mkdir(parents=True, exist_ok=True)
        demonstration = demonstrate(chosen, seed=seed)
        text = strict_json(demonstration.to_dict())
        with writing_files():
            demonstration.plot().savefig(picture)
            numbers.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
    else:
        print_demonstration(demonstration, console())
        typer.echo(f"\nPicture: {picture}\nNumbers: {numbers}")


def _demonstration_backend(name: str) -> DemonstrationBackend:
    chosen = backend(name)
    if not isinstance(chosen, DemonstrationBackend):
        msg = f"the backend {name!r} cannot train the network of the demonstration: take another one, such as numpy"
        raise ModelError(msg)
    return chosen
