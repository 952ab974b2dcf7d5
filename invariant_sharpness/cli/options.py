"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer


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
