"""What the tests of the command line share: a target, and a way to call."""

from __future__ import annotations

import re
from typing import Any

from typer.testing import CliRunner

from invariant_sharpness.cli import app

SOURCE = """
import sys
import time

import numpy as np
import invariant_sharpness as ish
from invariant_sharpness_numpy import ReluNetwork

print("the target speaks")
model = ReluNetwork.initialize((4, 5, 3), seed=0)
x, y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3

def build():
    return ish.oracle(model, (x, y))

pair = model, (x, y)
constant = model, (0 * x, y), "normalized_cross_entropy"

def badly_labelled():
    return model, (x, y + 100)

def fails():
    raise RuntimeError("my own mistake")

def endless():
    print("started", file=sys.stderr, flush=True)
    time.sleep(60)
"""


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def plain(text: str) -> str:
    """Without colors, frames and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())
