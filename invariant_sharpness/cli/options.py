"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Seed = Annotated[
    int, typer.Option(help="Seed of all that is random; the same seed gives the same numbers.", min=0, max=2**63 - 1)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
