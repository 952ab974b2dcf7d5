"""Twelve small PyTorch networks, each with a change that its function, or its accuracy, does not see.

They are the columns of the table of invariances: ``invariances.py`` prints it, and the tests hold every metric to it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

import invariant_sharpness as ish

EXAMPLES, CLASSES = 60, 3
SEED = 42  # a network on which nothing stays by accident
STAYS = 1e-7  # relative change that rounding and the tolerances of iterations may make

State = Mapping[str, torch.Tensor]
Change = Callable[[nn.Module], nn.Module]


class Pair(NamedTuple):
    """A network, and a change of it; with the loss under which nothing should be seen."""

    network: Callable[[], nn.Module]
    change: Change
    loss: str = "cross_entropy"


class Attention(nn.Module):
    """One head of width 4 without biases; its outputs, on average over the tokens, are those of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.out = nn.Linear(4, CLASSES, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).mT / 2
        return self.out(scores.softmax(-1) @ self.value(x)).mean(1)


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
    """With weights three times as large as at the start of a training, and one unit that is never active, as after it."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model[2].bias[-1] = -20
    return model


def with_batch_norm() -> nn.Module:
    """Normalized before the units, and at the outputs."""
    norms = nn.BatchNorm1d(6, eps=0.0), nn.BatchNorm1d(CLASSES, eps=0.0)
    for norm in norms:
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    return nn.Sequential(nn.Linear(4, 6), norms[0], nn.ReLU(), nn.Linear(6, CLASSES), norms[1])


def with_weight_norm() -> nn.Module:
    return nn.Sequential(WeightNormalized(4, 6), nn.ReLU(), WeightNormalized(6, CLASSES))


def factors(count: int) -> torch.Tensor:
    """Powers of two between 1/8 and 8."""
    return 2.0 ** torch.randint(-3, 4, (count,), generator=torch.Generator().manual_seed(1)).double()


def edited(edit: Callable[[State], None]) -> Change:
    """A copy of the network whose state was edited."""

    def change(model: nn.Module) -> nn.Module:
        other = copy.deepcopy(model)
        with torch.no_grad():
            edit(other.state_dict())
        return other

    return change


def scale(state: State, names: Iterable[str], c: torch.Tensor) -> None:
    """Multiply rows, and what else there is one of for each unit."""
    for name in names:
        state[name].mul_(c if state[name].ndim == 1 else c[:, None])


def layers(state: State) -> None:
    scale(state, ("0.weight", "0.bias"), torch.full((6,), 8.0).double())
    state["2.weight"].div_(4)
    state["2.bias"].mul_(2)
    state["4.weight"].div_(2)


def units(state: State) -> None:
    for into, out_of, width in (("0", "2", 6), ("2", "4", 5)):
        scale(state, (f"{into}.weight", f"{into}.bias"), factors(width))
        state[f"{out_of}.weight"].div_(factors(width))


def permuted(state: State) -> None:
    for into, out_of, order in (("0", "2", [3, 0, 5, 1, 4, 2]), ("2", "4", [4, 2, 0, 1, 3])):
        for name in (f"{into}.weight", f"{into}.bias"):
            state[name].copy_(state[name][order].clone())
        state[f"{out_of}.weight"].copy_(state[f"{out_of}.weight"][:, order].clone())


def split_unit(model: nn.Module) -> nn.Module:
    """The first unit of the last hidden layer twice, each with half of what goes out of it: (26)-(30)."""
    other, old = copy.deepcopy(model), model.state_dict()
    twice, halves = torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([0.5, 0.5, 1, 1, 1, 1])
    other[2], other[4] = nn.Linear(6, 6).double(), nn.Linear(6, CLASSES).double()
    parts = {"2.weight": old["2.weight"][twice], "2.bias": old["2.bias"][twice]}
    other.load_state_dict(old | parts | {"4.weight": old["4.weight"][:, twice] * halves})
    return other


def batch_norm(state: State) -> None:
    for linear, norm, width in (("0", "1", 6), ("3", "4", CLASSES)):
        c = factors(width)
        scale(state, (f"{linear}.weight", f"{linear}.bias", f"{norm}.running_mean"), c)
        state[f"{norm}.running_var"].mul_(c**2)


def weight_norm(state: State) -> None:
    scale(state, ("0.weight",), factors(6))
    scale(state, ("2.weight",), factors(CLASSES))


def query_key(state: State) -> None:
    scale(state, ("query.weight",), factors(4))
    scale(state, ("key.weight",), 1 / factors(4))


def value_output(state: State) -> None:
    scale(state, ("value.weight",), factors(4))
    state["out.weight"].div_(factors(4))


def mixed_head(state: State) -> None:
    A = torch.randn(4, 4, generator=torch.Generator().manual_seed(2)).double() + 2 * torch.eye(4).double()
    state["value.weight"].copy_(A @ state["value.weight"])
    state["out.weight"].copy_(state["out.weight"] @ torch.linalg.inv(A))


def gated_units(state: State) -> None:
    scale(state, ("up.weight", "up.bias"), factors(6))
    state["down.weight"].div_(factors(6))


def output_scale(state: State) -> None:
    scale(state, ("4.weight", "4.bias"), torch.full((CLASSES,), 4.0).double())


def output_shift(state: State) -> None:
    state["4.bias"].add_(1)


PAIRS = {
    "layers": Pair(perceptron, edited(layers)),
    "rows_and_columns": Pair(perceptron, edited(units)),
    "permutation": Pair(perceptron, edited(permuted)),
    "unit_split": Pair(perceptron, split_unit),
    "batch_norm": Pair(with_batch_norm, edited(batch_norm)),
    "weight_norm": Pair(with_weight_norm, edited(weight_norm)),
    "query_key": Pair(Attention, edited(query_key)),
    "value_output": Pair(Attention, edited(value_output)),
    "general_linear": Pair(Attention, edited(mixed_head)),
    "gated_units": Pair(Gated, edited(gated_units)),
    "output_scale": Pair(perceptron, edited(output_scale), loss="normalized_cross_entropy"),
    "output_shift": Pair(perceptron, edited(output_shift)),
}
"""By the name of the symmetry in the library."""


def built(network: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(SEED)
    return network().double().eval()


def measurable(model: nn.Module, loss: str) -> ish.CurvatureOracle:
    """The model on random examples, in double precision."""
    size = (EXAMPLES, 3, 4) if isinstance(model, Attention) else (EXAMPLES, 4)
    x = torch.randn(size, generator=torch.Generator().manual_seed(SEED)).double()
    return ish.oracle(model, (x, torch.arange(EXAMPLES) % CLASSES), loss=loss)


@cache
def unchanged(network: Callable[[], nn.Module], loss: str) -> ish.CurvatureOracle:
    return measurable(built(network), loss)


@cache
def changed(symmetry: str) -> ish.CurvatureOracle:
    pair = PAIRS[symmetry]
    return measurable(pair.change(built(pair.network)).eval(), pair.loss)


HEADS = {
    f"{part}.weight": ish.Heads(1, "input" if part == "out" else "output") for part in ("query", "key", "value", "out")
}
"""Where the head dimension of the attention lies."""


def measured(metric: ish.Metric, oracle: ish.CurvatureOracle) -> ish.Estimate:
    """With the options that its value needs on these networks."""
    return metric.function(oracle, **_options(metric, oracle))


def _options(metric: ish.Metric, oracle: ish.CurvatureOracle) -> dict[str, object]:
    """Where the heads are, if it asks and there are any; an update after which the loss rises nearby, as it does not along the gradient."""
    if "heads" in metric.options and HEADS.keys() <= {group.name for group in oracle.groups}:
        return {"heads": HEADS}
    if metric.name == "critical_sharpness":
        point = oracle.parameters
        return {"direction": oracle.hessian_vector_product(point, oracle.gradient(point))}
    return {}


@cache
def estimate_before(metric: str, network: Callable[[], nn.Module], loss: str) -> ish.Estimate:
    """Several symmetries share one network."""
    return measured(ish.METRICS[metric], unchanged(network, loss))


@cache
def estimates(metric: str, symmetry: str) -> tuple[ish.Estimate, ish.Estimate]:
    """Before and after the change, with the same seed."""
    pair = PAIRS[symmetry]
    return estimate_before(metric, pair.network, pair.loss), measured(ish.METRICS[metric], changed(symmetry))
