"""torch's own losses, with their options: value, gradient and dense Hessian of the loss of all data, as torch computes it."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from invariant_sharpness.testing import check_oracle
from zoo.torch_losses import (
    CLASSES,
    COUNTS,
    LABELS,
    MIXED,
    NUMBERS,
    OF_CLASS_TWO_NOTHING,
    SIGNS,
    SOFT,
    WEIGHT,
    K,
    Loss,
    N,
    X,
    assert_agrees,
    network,
    random,
)

REDUCTIONS = ("mean", "sum")


def of_classes(reduction: str) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    loss = partial(nn.CrossEntropyLoss, reduction=reduction)
    log = partial(nn.NLLLoss, reduction=reduction)
    margin = partial(nn.MultiMarginLoss, reduction=reduction)
    return {
        "plain": (loss(), LABELS),
        "smooth": (loss(label_smoothing=0.1), LABELS),
        "smooth, weighted": (loss(label_smoothing=0.3, weight=WEIGHT), LABELS),
        "smooth, weighted, a class ignored": (loss(label_smoothing=0.3, weight=WEIGHT, ignore_index=1), CLASSES),
        "mixed": (loss(), MIXED),
        "mixed, weighted": (loss(weight=WEIGHT), MIXED),
        "mixed, smooth, weighted": (loss(weight=OF_CLASS_TWO_NOTHING, label_smoothing=0.2), MIXED),
        "masses of any sum": (loss(), SOFT),
        "log-likelihood": (log(), LABELS),
        "log-likelihood, weighted": (log(weight=WEIGHT, ignore_index=2), CLASSES),
        "margin": (margin(), CLASSES),
        "squared margin, weighted": (margin(p=2, margin=0.7, weight=WEIGHT), CLASSES),
    }


def of_numbers(reduction: str) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    binary = partial(nn.BCEWithLogitsLoss, reduction=reduction)
    divergence = partial(nn.KLDivLoss, reduction=reduction)
    return {
        "binary": (binary(), SOFT),
        "binary, of integer labels": (binary(pos_weight=WEIGHT), (SOFT > 0.5).double()),
        "binary, weighted": (binary(weight=WEIGHT, pos_weight=2 * WEIGHT), SOFT),
        "squared": (nn.MSELoss(reduction=reduction), NUMBERS),
        "absolute": (nn.L1Loss(reduction=reduction), NUMBERS),
        "huber": (nn.HuberLoss(delta=0.8, reduction=reduction), NUMBERS),
        "smooth absolute": (nn.SmoothL1Loss(beta=2.0, reduction=reduction), NUMBERS),
        "smooth absolute, not at all": (nn.SmoothL1Loss(beta=0.0, reduction=reduction), NUMBERS),
        "poisson": (nn.PoissonNLLLoss(reduction=reduction), COUNTS),
        "poisson, full": (nn.PoissonNLLLoss(full=True, reduction=reduction), COUNTS.double()),
        "divergence": (divergence(), MIXED),
        "divergence of logarithms": (divergence(log_target=True), MIXED.log()),
    }


def others(reduction: str) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Losses that torch alone computes."""
    return {
        "soft margin": (nn.SoftMarginLoss(reduction=reduction), SIGNS),
        "several labels": (nn.MultiLabelSoftMarginLoss(weight=WEIGHT, reduction=reduction), (SOFT > 0.5).double()),
        "hinge": (nn.HingeEmbeddingLoss(margin=0.5, reduction=reduction), SIGNS),
    }


CASES = [
    pytest.param(
        *case,
        id=f"{name}, {reduction}",
        marks=[pytest.mark.slow] if reduction == "sum" and table is not of_classes and name != "huber" else [],
    )
    for reduction in REDUCTIONS
    for table in (of_classes, of_numbers, others)
    for name, case in table(reduction).items()
] + [pytest.param(nn.KLDivLoss(reduction="batchmean"), MIXED, id="divergence, mean over the batch")]


def reference(loss: nn.Module) -> Loss:
    """torch's own loss; written by hand where ``torch.func`` has no second derivative of it."""
    if isinstance(loss, nn.SoftMarginLoss):
        reduce = torch.sum if loss.reduction == "sum" else torch.mean
        return lambda z, t: reduce(torch.log1p(torch.exp(-t * z)))
    if not isinstance(loss, nn.MultiMarginLoss):
        return loss
    weight = torch.ones(K, dtype=torch.float64) if loss.weight is None else loss.weight

    def margins(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        excess = (loss.margin - outputs.gather(1, labels[:, None]) + outputs).clamp(min=0) ** loss.p
        others = functional.one_hot(labels, K) == 0
        rows = (excess * others).sum(1) / K * weight[labels]
        return rows.sum() if loss.reduction == "sum" else rows.mean()

    return margins


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.parametrize(("loss", "targets"), CASES)
def test_module_is_measured_as_torch_computes_it(loss: nn.Module, targets: torch.Tensor) -> None:
    before = copy.deepcopy(vars(loss))
    assert_agrees(network(), X, targets, loss, reference(loss))
    assert str(before) == str(vars(loss)), "the user's loss was changed"


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_rates_and_probabilities_are_measured_as_torch_computes_them(reduction: str) -> None:
    rates = nn.PoissonNLLLoss(log_input=False, reduction=reduction)
    assert_agrees(network(positive=True), X, COUNTS, rates, rates)
    model = network(positive=True)
    with torch.no_grad():
        model[2].weight.mul_(0.05)
    probabilities = nn.BCELoss(reduction=reduction)
    assert_agrees(model, X, SOFT, probabilities, probabilities)


FUNCTIONS = {
    "cross-entropy": (functional.cross_entropy, {"label_smoothing": 0.1, "weight": WEIGHT}, LABELS),
    "cross-entropy, summed": (functional.cross_entropy, {"reduction": "sum"}, MIXED),
    "binary": (functional.binary_cross_entropy_with_logits, {"pos_weight": WEIGHT}, SOFT),
    "huber": (functional.huber_loss, {"delta": 0.5}, NUMBERS),
    "log-likelihood": (functional.nll_loss, {"weight": WEIGHT}, LABELS),
    "margin": (functional.multi_margin_loss, {"p": 2}, CLASSES),
    "absolute": (functional.l1_loss, {}, NUMBERS),
}


@pytest.mark.parametrize("what", FUNCTIONS)
def test_function_is_measured_as_its_module(what: str) -> None:
    function, options, targets = FUNCTIONS[what]
    loss = partial(function, **options)
    assert_agrees(network(), X, targets, loss, reference(nn.MultiMarginLoss(**options)) if what == "margin" else loss)
    if not options:
        assert_agrees(network(), X, targets, function, function)


@pytest.mark.parametrize("options", [{"weight": WEIGHT}, {"label_smoothing": 0.2, "weight": OF_CLASS_TWO_NOTHING}])
def test_values_without_a_reduction_are_averaged(options: dict[str, Any]) -> None:
    """As module, partial function and opaque callable alike."""
    rows = partial(functional.cross_entropy, reduction="none", **options)
    for loss in (nn.CrossEntropyLoss(reduction="none", **options), rows, lambda z, t: rows(z, t)):
        assert_agrees(network(), X, LABELS, loss, lambda z, t: rows(z, t).mean())


class Pixels(nn.Module):
    """Outputs with the classes on axis 1, and two axes of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, K, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


IMAGES = random(5, 2, 4, 3)
MASK = torch.arange(5 * 3 * 2).reshape(5, 3, 2) % K
PIXEL_CASES = {
    "probabilities": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1), random(5, K, 3, 2).softmax(1)),
    "labels": (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1, ignore_index=3), MASK),
    "log-likelihood": (nn.NLLLoss(weight=WEIGHT), MASK),
    "masks": (nn.BCEWithLogitsLoss(pos_weight=WEIGHT[:, None, None]), random(5, K, 3, 2).sigmoid()),
    "masks, weighted by pixel": (nn.BCEWithLogitsLoss(weight=random(3, 2).abs()), random(5, K, 3, 2).sigmoid()),
    "counts, summed": (nn.PoissonNLLLoss(reduction="sum"), torch.arange(5 * K * 6).reshape(5, K, 3, 2) % 3),
}


@pytest.mark.parametrize("what", PIXEL_CASES)
def test_losses_of_pixels(what: str) -> None:
    loss, targets = PIXEL_CASES[what]
    torch.manual_seed(1)
    assert_agrees(Pixels().double(), IMAGES, targets, loss, loss)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2, reduction="sum"), LABELS),
        (nn.BCEWithLogitsLoss(pos_weight=WEIGHT), SOFT),
    ],
    ids=["cross-entropy", "binary"],
)
def test_sampled_outputs_have_the_exact_diagonal_as_their_mean(loss: nn.Module, targets: torch.Tensor) -> None:
    oracle = ish.oracle(network(), (X, targets), loss=loss, batch_size=4)
    names = frozenset(group.name for group in oracle.groups)
    exact = oracle.gauss_newton_diagonal(oracle.parameters, names=names)
    draws = [oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, range(n, n + 1), 0) for n in range(64)]
    for name in names:
        sampled = torch.stack([draw[name] for draw in draws])
        deviation = (sampled.mean(0) - exact[name]).abs() / (sampled.std(0) / 8 + 1e-12)
        assert float(deviation.max()) < 5, f"{name} is {float(deviation.max()):.1f} standard errors off"


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(reduction="sum"), nn.BCEWithLogitsLoss(pos_weight=WEIGHT)], ids=str
)
def test_oracles_pass_the_checks(loss: nn.Module) -> None:
    oracle = ish.oracle(network(), (X, SOFT), loss=loss, batch_size=4)
    for checked in (oracle, ish.Scaled(oracle, 2.0 * oracle.parameters.map(torch.ones_like))):
        failed = [result for result in check_oracle(checked) if result.status == "failed"]
        assert not failed, failed


def test_a_sum_is_the_mean_times_the_number_of_examples() -> None:
    total, mean = (
        ish.oracle(network(), (X, CLASSES), loss=nn.CrossEntropyLoss(reduction=reduction))
        for reduction in ("sum", "mean")
    )
    for name in ("hessian_trace", "hessian_spectral_norm", "fisher_rao_norm"):
        values = [ish.METRICS[name](oracle).value for oracle in (total, mean)]
        assert values[0] == pytest.approx(N * values[1], rel=1e-10), name


def test_losses_that_are_not_convex_are_not_sampled() -> None:
    oracle = ish.oracle(network(), (X, SIGNS), loss=nn.SoftMarginLoss())
    assert not oracle.samples_outputs


def test_logits_of_zero_and_of_a_sure_network_have_the_curvature_of_binary_cross_entropy() -> None:
    """At zero, softplus has a kink in every stable form that autograd does not know."""
    model = nn.Linear(1, 1, bias=False).double()
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for weight in (0.0, 100.0, -100.0, 800.0, -800.0):
        with torch.no_grad():
            model.weight.fill_(weight)
        oracle = ish.oracle(model, (x, torch.tensor([[1.0], [0.0]])), loss=nn.BCEWithLogitsLoss())
        ones = oracle.from_numpy({"weight": np.ones((1, 1))})
        p, q = torch.sigmoid(torch.tensor([weight, -weight], dtype=torch.float64)).tolist()
        product = float(oracle.hessian_vector_product(oracle.parameters, ones)["weight"])
        assert product == pytest.approx(p * q / 2, rel=1e-12, abs=1e-300)


class Focal(nn.CrossEntropyLoss):
    """A subclass with a loss of its own."""

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nll = functional.cross_entropy(outputs, targets, reduction="none")
        return (1 - torch.exp(-nll)) ** 2 * nll


class Renamed(nn.CrossEntropyLoss):
    """A subclass that computes what torch does."""


def test_subclasses_compute_their_own_loss() -> None:
    focal = Focal(label_smoothing=0.5)
    assert_agrees(network(), X, CLASSES, focal, lambda z, t: focal(z, t).mean())
    assert_agrees(network(), X, CLASSES, Renamed(weight=WEIGHT), nn.CrossEntropyLoss(weight=WEIGHT))
