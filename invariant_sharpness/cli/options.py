"""Options that several commands share, each checked before anything is imported or measured."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
        "that returns one of these, also with arguments: 'file.py:name(checkpoint=\"a.pt\")'.",
        metavar="TARGET",
        show_default=False,
    ),
]


LossName = Annotated[
    str | None,
    typer.Option(
        help="A loss by name, such as cross_entropy or mse, instead of the one of the target; for targets that are tuples.",
        show_default="the target's",
        metavar="NAME",
    ),
]
Precision = Annotated[
    Literal["float32", "float64"] | None,
    typer.Option(
        help="Measure a copy of the model in this precision; for targets that are tuples.", show_default="the model's"
    ),
]


def model_options(loss: str | None, dtype: str | None) -> dict[str, Any]:
    """Return the options of the oracle that were given."""
    return {name: value for name, value in {"loss": loss, "dtype": dtype}.items() if value is not None}


def known_metric(name: str | None) -> str | None:
    """Refuse a name that no metric of the library has; says which one was meant."""
    try:
        return None if name is None else as_metric(name).name
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def names_in(text: str | None) -> list[str] | None:
    """Split names with commas between them; a pattern stands for all metrics of the library whose names it fits."""
    if text is None:
        return None
    given = [name.strip() for name in text.split(",") if name.strip()]
    fitting = [fnmatch.filter(METRICS, name) if _is_pattern(name) else [name] for name in given]
    return list(dict.fromkeys(name for names in fitting for name in names))


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _known_metrics(text: str | None) -> str | None:
    names = names_in(text) or []
    for name in names:
        known_metric(name)
    if text is not None and not names:
        msg = f"it names no metric; the metrics are {', '.join(METRICS)}."
        raise typer.BadParameter(msg)
    return text


MetricNames = Annotated[
    str | None,
    typer.Option(
        help="Names of metrics with commas between them, or patterns such as '*normalized*'.",
        show_default="the usual six",
        callback=_known_metrics,
        metavar="A,B,...",
    ),
]


def in_existing_folder(path: Path | None) -> Path | None:
    """Refuse a file in a folder that is not there, before anything is measured."""
    if path is not None and not path.parent.is_dir():
        msg = f"the folder {str(path.parent)!r} does not exist."
        raise typer.BadParameter(msg)
    return path


def picture_file(path: Path | None) -> Path | None:
    """Refuse what matplotlib would not draw, before anything is measured."""
    if path is not None and path.suffix.lower() not in (".png", ".pdf", ".svg"):
        msg = f"{str(path)!r} should end in .png, .pdf or .svg."
        raise typer.BadParameter(msg)
    return in_existing_folder(path)


Probes = Annotated[
    int, typer.Option(help="Hessian-vector products for each quantity that has to be sampled.", min=4, metavar="N")
]
Budget = Annotated[
    float | None,
    typer.Option(
        help="Gradients for the diagonal of the Hessian, in the place of --probes: exact if that fits.",
        metavar="GRADIENTS",
    ),
]
CsvFile = Annotated[
    Path | None,
    typer.Option(help="Also write the rows to this file.", callback=in_existing_folder, dir_okay=False),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(
        help="Also write a page with tables, pictures and signature to this file.",
        callback=in_existing_folder,
        dir_okay=False,
    ),
]
Picture = Annotated[
    Path, typer.Option(help="Where to draw: a .png, .pdf or .svg file.", callback=picture_file, dir_okay=False)
]
