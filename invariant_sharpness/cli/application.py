"""The application: its commands, its version, and its exit codes."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from invariant_sharpness.cli.comparing import compare
from invariant_sharpness.cli.demonstration.command import demo
from invariant_sharpness.cli.examining import doctor
from invariant_sharpness.cli.listing import metrics
from invariant_sharpness.cli.measuring import certify, landscape, measure
from invariant_sharpness.cli.ranking import rank
from invariant_sharpness.cli.terminal import INTERRUPTED

app = typer.Typer(
    name="invariant-sharpness",
    help="Sharpness of neural networks, measured independently of reparametrization.",
    epilog="Exit codes: 0 all is well, 1 the measurement, a check or a claim failed, 2 wrong usage, 130 interrupted.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(measure)
app.command()(compare)
app.command()(certify)
app.command()(landscape)
app.command()(rank)
app.command()(metrics)
app.command()(doctor)


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app(prog_name="invariant-sharpness")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it by position
    if wanted:
        typer.echo(f"invariant-sharpness {version('invariant-sharpness')}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options that stand in front of every command."""
