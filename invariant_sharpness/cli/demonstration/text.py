"""What the demonstration prints: what was done, one table, and what was seen."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from invariant_sharpness.cli.demonstration.results import (
    DECADES,
    DEMONSTRATED,
    SIZES,
    Demonstration,
    NetworkResult,
    invariant_metrics,
    unconverged,
)
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.ratios import factor_text, ratio

_SAME_FUNCTION = 1e-9
_STAYED = 1e-6


def print_demonstration(demonstration: Demonstration, console: Console) -> None:
    """Print what was done, one table, what was seen, and what the certificate says."""
    for part in (
        _setting(demonstration),
        _table(demonstration),
        _seen(demonstration),
        _certified(demonstration),
    ):
        console.print(part, markup=False, highlight=False)


def demonstration_text(demonstration: Demonstration) -> str:
    """Return the same as plain text."""
    text = io.StringIO()
    print_demonstration(demonstration, Console(file=text, width=118, force_jupyter=False))
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


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
    table.add_column("invariant under", overflow="fold")
    for metric in DEMONSTRATED:
        numbers = [cell for network in demonstration.networks for cell in _cells(network, metric)]
        stayed = all(abs(network.factors[metric] - 1) < _STAYED for network in demonstration.networks)
        table.add_row(metric, *numbers, demonstration.learned.before.claim(metric), style="green" if stayed else "red")
    return table


def _cells(network: NetworkResult, metric: str) -> tuple[str, str, str]:
    return (
        _value_text(network.before[metric]),
        _value_text(network.after[metric]),
        factor_text(network.factors[metric]),
    )


def _value_text(estimate: Estimate) -> str:
    return f"{estimate.value:.4g}" if estimate.converged else f"{estimate.value:.4g} (!)"


def _seen(demonstration: Demonstration) -> str:
    lines = [
        "",
        *map(_function_text, demonstration.networks),
        _factors_text(demonstration),
        _order_text(demonstration, "hessian_trace"),
        _order_text(demonstration, "normalized_sharpness"),
        *(warning for network in demonstration.networks for warning in _warnings(network)),
    ]
    return "\n".join(lines)


def _certified(demonstration: Demonstration) -> str:
    """Say what was found without being told, and which claims hold there."""
    certificate = demonstration.certificate
    claims = [record for record in certificate.worst() if record.claimed]
    held = [record for record in claims if record.verdict == "holds"]
    failed = "".join(f"\n{record.metric}, {record.kind}: {record.verdict}" for record in claims if record not in held)
    largest = max((record.change for record in held), default=0.0)
    return (
        f"\nWhat can be rescaled in the first network was also found from its Jacobian alone (find_symmetries):\n"
        f"{certificate.symmetries}\n"
        f"Under all of these, {len(held)} of the {len(claims)} invariances that the metrics declare hold (certify), to {largest:.1e}."
        f"{failed}"
    )


def _function_text(network: NetworkResult) -> str:
    losses = f"loss {network.before.loss:.9g} before and {network.after.loss:.9g} after the rescaling"
    if network.loss_change == 0:
        return f"{network.name}: {losses}, equal to the last bit."
    verdict = "rounding" if network.loss_change <= _SAME_FUNCTION else "MORE THAN ROUNDING IN DOUBLE PRECISION"
    return f"{network.name}: {losses}, a relative change of {network.loss_change:.1e}: {verdict}."


def _factors_text(demonstration: Demonstration) -> str:
    """Say what was seen of the declarations, whichever way it came out."""
    declared = invariant_metrics(DEMONSTRATED)
    factors = [(name, factor) for network in demonstration.networks for name, factor in network.factors.items()]
    moved = max(abs(factor - 1) for name, factor in factors if name in declared)
    others = [abs(factor) for name, factor in factors if name not in declared]
    return (
        f"The metrics that are declared invariant under this moved by at most {moved:.1e} (relative), "
        f"the others by factors between {min(others):.3g} and {max(others):.3g}."
    )


def _order_text(demonstration: Demonstration, metric: str) -> str:
    """Compare the two networks, with and without the rescaling of one of them."""
    learned, memorized = demonstration.networks
    value = memorized.before[metric].value
    before, after = (ratio(value, report[metric].value) for report in (learned.before, learned.after))
    return (
        f"By {metric}, the network that learned random labels is {before:.3g} times as sharp as the one that learned "
        f"true labels; {after:.3g} times, if only the latter is rescaled."
    )


def _warnings(network: NetworkResult) -> list[str]:
    return [
        f"(!) {network.name}, {name} the rescaling: the iteration has not converged ({e.method}, relative residual "
        f"{e.certificate:.1g}); the value and its factor are not reliable."
        for name, e in unconverged(network).items()
    ]
