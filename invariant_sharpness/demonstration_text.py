"""What the demonstration says: what was done, one table, and what was seen."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from invariant_sharpness.demonstration import (
    DECADES,
    DEMONSTRATED,
    SIZES,
    Demonstration,
    NetworkResult,
    survivors,
    unconverged,
)
from invariant_sharpness.estimate import Estimate

_SAME_FUNCTION = 1e-9


def print_demonstration(demonstration: Demonstration, console: Console) -> None:
    """Print what was done, one table, and what was seen."""
    for part in (_setting(demonstration), _table(demonstration), _findings(demonstration)):
        console.print(part, markup=False, highlight=False)


def _setting(demonstration: Demonstration) -> str:
    layers = "-".join(map(str, SIZES))
    accuracies = "\n".join(f"  {_accuracy_text(network)}" for network in demonstration.networks)
    return (
        f"Two {layers} ReLU networks on 8 x 8 digits ({demonstration.backend}, seed {demonstration.seed}), one trained "
        f"on true labels and one on random labels:\n{accuracies}\n"
        f"Each is measured on its own training data with the loss {demonstration.loss} (20), which does not see the "
        f"scale of the outputs. Then every hidden unit is multiplied by a random factor between 1e-{DECADES} and "
        f"1e{DECADES}, and what goes out of it is divided by the same: other parameters, the same function.\n"
    )


def _accuracy_text(network: NetworkResult) -> str:
    return f"{network.name}: accuracy {network.training_accuracy:.1%} in training, {network.test_accuracy:.1%} in test"


def _table(demonstration: Demonstration) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("metric", overflow="fold", vertical="bottom")
    for network in demonstration.networks:
        table.add_column(network.name.replace(" ", "\n"), justify="right", no_wrap=True)
        table.add_column("after\nrescaling", justify="right", no_wrap=True)
        table.add_column("\nfactor", justify="right", no_wrap=True)
    table.add_column("claims to survive", overflow="fold")
    for metric in DEMONSTRATED:
        numbers = [cell for network in demonstration.networks for cell in _cells(network, metric)]
        style = "blue" if metric in survivors([metric]) else "red"
        table.add_row(metric, *numbers, demonstration.learned.before.claim(metric), style=style)
    return table


def _cells(network: NetworkResult, metric: str) -> tuple[str, str, str]:
    return (
        _value_text(network.before[metric]),
        _value_text(network.after[metric]),
        _factor_text(network.factors[metric]),
    )


def _value_text(estimate: Estimate) -> str:
    return f"{estimate.value:.4g}" if estimate.converged else f"{estimate.value:.4g} (!)"


def _factor_text(factor: float) -> str:
    return f"{factor:.6f}" if 0.01 <= abs(factor) < 100 else f"{factor:.2e}"


def _findings(demonstration: Demonstration) -> str:
    lines = [
        "",
        *map(_function_text, demonstration.networks),
        _factors_text(demonstration),
        f"By normalized sharpness (17), the network that learned random labels is {demonstration.sharpness_ratio:.3g} "
        f"times as sharp as the one that learned true labels, before the rescaling.",
        *(warning for network in demonstration.networks for warning in _warnings(network)),
    ]
    return "\n".join(lines)


def _function_text(network: NetworkResult) -> str:
    change = (
        f"{network.name}: loss {network.before.loss:.9g} before and {network.after.loss:.9g} after the rescaling, a "
    )
    verdict = "rounding" if network.loss_change <= _SAME_FUNCTION else "MORE THAN ROUNDING IN DOUBLE PRECISION"
    return f"{change}relative change of {network.loss_change:.1e}: {verdict}."


def _factors_text(demonstration: Demonstration) -> str:
    """What was seen of the claims, whichever way it came out."""
    claimed = survivors(DEMONSTRATED)
    moved = [abs(n.factors[m] - 1) for n in demonstration.networks for m in claimed]
    raw = [
        max(abs(n.factors[m]), 1 / abs(n.factors[m])) for n in demonstration.networks for m in _raw() if n.factors[m]
    ]
    return (
        f"The metrics that claim to survive this moved by at most {max(moved):.1e} (relative); "
        f"the others by factors from {min(raw):.3g} to {max(raw):.3g}."
    )


def _raw() -> list[str]:
    return [metric for metric in DEMONSTRATED if metric not in survivors(DEMONSTRATED)]


def _warnings(network: NetworkResult) -> list[str]:
    return [
        f"(!) {network.name}, {name} the rescaling: the iteration has not converged ({e.method}, relative residual "
        f"{e.certificate:.1g}); the value and its factor are not reliable."
        for name, e in unconverged(network).items()
    ]
