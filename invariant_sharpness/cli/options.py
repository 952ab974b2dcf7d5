"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invariant_sharpness.cli.output import in_existing_folder
from invariant_sharpness.evaluation.door import as_metric
from invariant_sharpness.metrics import METRICS


def _checked_seed(seed: int) -> int:
    if not 0 <= seed < 2**63:
        msg = f"{seed} is not a seed: it is an integer from 0 to 2**63 - 1."
        raise typer.BadParameter(msg)
    return seed


Seed = Annotated[
    int,
    typer.Option(
        help="Seed of all that is random. The same seed gives the same numbers.", callback=_checked_seed, metavar="N"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Target = Annotated[
    str,
    typer.Argument(
        help="file.py:name or package.module:name. It is IMPORTED AND RUN with your rights, so only measure code "
        "that you trust. The name is an oracle, a tuple (model, data) or (model, data, loss), or a function "
        "without arguments that returns one of these.",
        metavar="TARGET",
        show_default=False,
    ),
]


def _metric_names(text: str | None) -> str | None:
    names = names_in(text) or []
    for name in names:
        require_known(name)
    if text is not None and not names:
        msg = f"it names no metric; the metrics are {', '.join(METRICS)}."
        raise typer.BadParameter(msg)
    return text


def require_known(name: str) -> None:
    """Refuse the name of a metric that does not exist, with the names there are."""
    try:
        as_metric(name)
    except ValueError as error:
        msg = f"{error}."
        raise typer.BadParameter(msg) from error


def names_in(text: str | None) -> list[str] | None:
    """Names with commas between them."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


MetricNames = Annotated[
    str | None,
    typer.Option(
        help="Names of metrics with commas between them.",
        show_default="all that are not costly",
        callback=_metric_names,
        metavar="A,B,...",
    ),
]


def picture_file(path: Path | None) -> Path | None:
    """Refuse what matplotlib would not draw, before anything is measured."""
    if path is not None and path.suffix.lower() not in (".png", ".pdf", ".svg"):
        msg = f"{str(path)!r} should end in .png, .pdf or .svg."
        raise typer.BadParameter(msg)
    return in_existing_folder(path)


Picture = Annotated[
    Path, typer.Option(help="Where to draw: a .png, .pdf or .svg file.", callback=picture_file, dir_okay=False)
]
