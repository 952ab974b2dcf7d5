"""What each metric does when a network is changed in a way that its function, or its accuracy, does not see.

    python docs/experiments/invariances.py

Every cell is measured: the metric before and after, with the same seed, on small PyTorch networks in double precision. ``=`` stands for a relative
change below 1e-6, and the factor by which the metric moved for everything else.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import InvariantSharpnessError

STAYS = 1e-6
EXAMPLES, CLASSES = 40, 3

Change = Callable[[nn.Module], nn.Module]


class Symmetry(NamedTuple):
    """A network, and a change of it; with the loss under which nothing should be seen."""

    network: Callable[[], nn.Module]
    change: Change
    loss: str = "cross_entropy"
    tokens: bool = False


class Attention(nn.Module):
    """One head of width 4 without biases, the mean over tokens, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(4, 4, bias=False) for _ in range(4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).mT / 2
        return self.head(self.out(scores.softmax(-1) @ self.value(x)).mean(1))


class WeightNormalized(nn.Linear):
    """Rows of unit length, times a gain. Written out: the second derivative of torch's own weight norm is wrong."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gain = nn.Parameter(torch.ones(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.weight / self.weight.norm(dim=1, keepdim=True)
        return nn.functional.linear(x, self.gain[:, None] * rows, self.bias)


class Gated(nn.Module):
    """A SwiGLU block."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, eps=0.0), nn.ReLU(), nn.Linear(6, CLASSES))


def with_weight_norm() -> nn.Module:
    return nn.Sequential(WeightNormalized(4, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def factors(count: int) -> torch.Tensor:
    """Powers of two between 1/8 and 8."""
    return 2.0 ** torch.randint(-3, 4, (count,), generator=torch.Generator().manual_seed(1)).double()


def edited(edit: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    """A copy of the network whose state was edited."""

    def change(model: nn.Module) -> nn.Module:
        other = copy.deepcopy(model)
        with torch.no_grad():
            edit(dict(other.state_dict(keep_vars=False)))
        return other

    return change


def scale_units(state: dict[str, torch.Tensor], into: Iterable[str], out_of: str, c: torch.Tensor) -> None:
    """Multiply what goes into some units, and divide what goes out."""
    for name in into:
        state[name].mul_(c if state[name].ndim == 1 else c[:, None])
    state[out_of].div_(c)


def layers(state: dict[str, torch.Tensor]) -> None:
    scale_units(state, ("0.weight", "0.bias"), "2.weight", torch.full((6,), 8.0).double())


def units(state: dict[str, torch.Tensor]) -> None:
    scale_units(state, ("0.weight", "0.bias"), "2.weight", factors(6))


def batch_norm(state: dict[str, torch.Tensor]) -> None:
    c = factors(6)
    for name, power in {"0.weight": 1, "0.bias": 1, "1.running_mean": 1, "1.running_var": 2}.items():
        state[name].mul_(c**power if state[name].ndim == 1 else c[:, None])


def weight_norm(state: dict[str, torch.Tensor]) -> None:
    state["0.weight"].mul_(factors(6)[:, None])


def permuted(state: dict[str, torch.Tensor]) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    state["0.weight"].copy_(state["0.weight"][order].clone())
    state["0.bias"].copy_(state["0.bias"][order].clone())
    state["2.weight"].copy_(state["2.weight"][:, order].clone())


def split_unit(model: nn.Module) -> nn.Module:
    """The first unit twice, each with half of what goes out of it: (26)-(30)."""
    other, old = nn.Sequential(nn.Linear(4, 7), *list(copy.deepcopy(model))[1:]).double(), model.state_dict()
    other[2] = nn.Linear(7, 5).double()
    twice = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    with torch.no_grad():
        other[0].weight.copy_(old["0.weight"][twice])
        other[0].bias.copy_(old["0.bias"][twice])
        other[2].weight.copy_(old["2.weight"][:, twice] * torch.tensor([0.5, 0.5, 1, 1, 1, 1, 1]))
        other[2].bias.copy_(old["2.bias"])
    return other


def output_scale(state: dict[str, torch.Tensor]) -> None:
    state["4.weight"].mul_(4)
    state["4.bias"].mul_(4)


def output_shift(state: dict[str, torch.Tensor]) -> None:
    state["4.bias"].add_(1)


def query_key(state: dict[str, torch.Tensor]) -> None:
    c = factors(4)
    state["query.weight"].mul_(c[:, None])
    state["key.weight"].div_(c[:, None])


def value_output(state: dict[str, torch.Tensor]) -> None:
    scale_units(state, ("value.weight",), "out.weight", factors(4))


def gated_units(state: dict[str, torch.Tensor]) -> None:
    scale_units(state, ("up.weight", "up.bias"), "down.weight", factors(6))


def mixed_head(state: dict[str, torch.Tensor]) -> None:
    """Any invertible matrix between values and output: GL(h)."""
    A = torch.randn(4, 4, generator=torch.Generator().manual_seed(2)).double() + 2 * torch.eye(4).double()
    state["value.weight"].copy_(A @ state["value.weight"])
    state["out.weight"].copy_(state["out.weight"] @ torch.linalg.inv(A))


SYMMETRIES = {
    "layers": Symmetry(perceptron, edited(layers)),
    "rows and columns": Symmetry(perceptron, edited(units)),
    "permutation": Symmetry(perceptron, edited(permuted)),
    "unit split": Symmetry(perceptron, split_unit),
    "batch norm": Symmetry(with_batch_norm, edited(batch_norm)),
    "weight norm": Symmetry(with_weight_norm, edited(weight_norm)),
    "query-key": Symmetry(Attention, edited(query_key), tokens=True),
    "value-output": Symmetry(Attention, edited(value_output), tokens=True),
    "GL(h)": Symmetry(Attention, edited(mixed_head), tokens=True),
    "gated units": Symmetry(Gated, edited(gated_units)),
    "output scale": Symmetry(perceptron, edited(output_scale), loss="normalized_cross_entropy"),
    "output shift": Symmetry(perceptron, edited(output_shift)),
}


def oracles(symmetry: Symmetry) -> tuple[ish.CurvatureOracle, ish.CurvatureOracle]:
    """Before and after; with the same loss, or else this is no symmetry."""
    torch.manual_seed(0)
    model = symmetry.network().double().eval()
    x = torch.randn(EXAMPLES, 3, 4).double() if symmetry.tokens else torch.randn(EXAMPLES, 4).double()
    y = torch.arange(EXAMPLES) % CLASSES
    before, after = (ish.oracle(m, (x, y), loss=symmetry.loss) for m in (model, symmetry.change(model).eval()))
    losses = [oracle.loss(oracle.parameters) for oracle in (before, after)]
    assert abs(losses[1] - losses[0]) <= 1e-12 * abs(losses[0]), f"the loss moved from {losses[0]} to {losses[1]}"
    return before, after


def cell(metric: ish.Metric, before: ish.CurvatureOracle, after: ish.CurvatureOracle) -> str:
    """``=``, or the factor by which the metric moved."""
    try:
        old, new = metric.function(before).value, metric.function(after).value
    except InvariantSharpnessError as error:
        print(f"{metric.name}: {error}", file=sys.stderr)
        return "-"
    if abs(new - old) <= STAYS * max(abs(old), abs(new)):
        return "="
    return f"{new / old:#.3g}" if old else "from 0"


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    columns = {name: oracles(symmetry) for name, symmetry in SYMMETRIES.items()}
    print("| metric |", " | ".join(columns), "|")
    print("| --- |" + " --- |" * len(columns))
    for name, metric in ish.METRICS.items():
        print(f"| `{name}` |", " | ".join(cell(metric, *pair) for pair in columns.values()), "|", flush=True)


if __name__ == "__main__":
    main()
