"""The zoo on JAX has the measures of that on PyTorch: the same weights are trained and measured alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from zoo_data import Images
from zoo_grid import Setting
from zoo_measures import battery, measures
from zoo_network import Trained

import invariant_sharpness as ish

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")
nnx = pytest.importorskip("flax.nnx")

import zoo_jax  # noqa: E402
import zoo_torch  # noqa: E402

NETWORKS = [(architecture, norm) for architecture in ("mlp", "lenet", "resnet") for norm in (False, True)]
EXACT = (
    "hessian_trace",
    "matrix_normalized_sharpness",
    "parameter_normalized_sharpness",
    "normalized_sharpness",
    "fisher_rao_norm",
)

for_each_network = pytest.mark.parametrize(("architecture", "norm"), NETWORKS)


def setting(architecture: str, **options: Any) -> Setting:
    return Setting(architecture=architecture, width=4, depth=1, **options)


def images() -> Images:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 1, 8, 8)).astype(np.float32), random.integers(0, 10, 40)
    return Images(x, y, x, y)


def norms(network: Any) -> Iterator[Any]:
    return (part for _, part in nnx.iter_modules(network) if isinstance(part, nnx.BatchNorm))


def copied_to_torch(network: Any, chosen: Setting) -> Any:
    """The network of PyTorch with the weights and the running statistics of one of JAX."""
    copy = zoo_torch.build(chosen, images().x.shape[1:])
    with torch.no_grad():
        for parameter, value in zip(copy.parameters(), zoo_jax.parameters_in_order(network), strict=True):
            parameter.copy_(torch.from_numpy(zoo_jax.outputs_first(np.array(value[...]))))
    pairs = zip((part for part in copy.modules() if hasattr(part, "running_mean")), norms(network), strict=True)
    for part, norm in pairs:
        part.running_mean.copy_(torch.from_numpy(np.array(norm.mean[...])))
        part.running_var.copy_(torch.from_numpy(np.array(norm.var[...])))
    return copy


def both(chosen: Setting) -> tuple[Trained, Trained, np.ndarray, np.ndarray]:
    """One network on JAX and PyTorch, images, and as labels what it predicts, so that margins are positive."""
    x = images().x
    network = zoo_jax.build(chosen, x.shape[1:])
    network(x)  # in training mode: the running statistics move away from 0 and 1
    network.eval()
    y = np.array(network(x).argmax(axis=1))
    initial = [0.5 * weight for weight in zoo_jax.weights(network)]
    of_torch = copied_to_torch(network, chosen).eval()
    on_torch = zoo_torch.as_trained(of_torch, chosen, (torch.from_numpy(x), torch.from_numpy(y)), initial, 1, 0.0)
    on_jax = zoo_jax.as_trained(network, chosen, (jax.numpy.asarray(x), jax.numpy.asarray(y)), initial, 1, 0.0)
    return on_jax, on_torch, x, y


@for_each_network
def test_the_battery_is_the_same(architecture: str, norm: bool) -> None:
    on_jax, on_torch, x, y = both(setting(architecture, norm=norm))
    found, expected = battery(on_jax, x, y), battery(on_torch, x, y)
    assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert np.isnan(expected["path_norm"]) == norm, "only networks with norms have no path norm"


def sum_over_paths(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> float:
    """Sum, over all paths from an input or a bias to an output, the squared product of what lies on it, one path at a time."""
    sizes = [weights[0].shape[1], *map(len, biases)]
    total = 0.0
    for start in range(len(sizes)):
        for units in product(*map(range, sizes[start:])):
            edges = [weight[to, origin] for weight, (origin, to) in zip(weights[start:], pairwise(units), strict=True)]
            source = biases[start - 1][units[0]] if start else 1.0
            total += (source * math.prod(edges)) ** 2
    return total


def test_the_path_norm_is_the_sum_over_all_paths() -> None:
    on_jax, on_torch, x, y = both(chosen := Setting(width=4, depth=2))
    values = [np.array(p[...], dtype=float) for p in zoo_jax.parameters_in_order(zoo_jax.build(chosen, x.shape[1:]))]
    expected = sum_over_paths([value.T for value in values[::2]], values[1::2])
    for trained in (on_jax, on_torch):
        assert battery(trained, x, y)["path_norm"] == pytest.approx(expected, rel=1e-5)


def test_the_path_norm_of_one_path_is_its_squared_product() -> None:
    assert sum_over_paths([np.array([[2.0]]), np.array([[3.0]])], [np.zeros(1), np.zeros(1)]) == 36


@pytest.mark.slow
@for_each_network
def test_measures_are_the_same(architecture: str, norm: bool) -> None:
    """To rounding, or within the errors of those that are sampled."""
    on_jax, on_torch, x, y = both(setting(architecture, norm=norm))
    found, expected = measures(on_jax, x, y), measures(on_torch, x, y)
    assert found.keys() == expected.keys()
    for name in found:
        if name.startswith("worst_case") or name.endswith("_error"):
            continue  # of a few random starts, which the names of norm layers change
        error = np.hypot(found.get(f"{name}_error", 0), expected.get(f"{name}_error", 0))
        assert found[name] == pytest.approx(expected[name], rel=1e-4, abs=5 * error, nan_ok=True), name


@pytest.mark.slow
@for_each_network
def test_measures_are_exact_on_both(architecture: str, norm: bool) -> None:
    on_jax, on_torch, *_ = both(setting(architecture, norm=norm))
    for trained in (on_jax, on_torch):
        report = ish.measure(trained.oracle("cross_entropy"), list(EXACT))
        methods = {name: report[name].method for name in EXACT}
        assert set(methods.values()) == {"exact"}, methods


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("architecture", ["mlp", "lenet", "resnet"])
def test_training_moves_weights_alike(architecture: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = setting(architecture, norm=True, optimizer=optimizer, weight_decay=0.1, learning_rate=0.01, batch_size=40)
    same = copied_to_torch(zoo_jax.build(chosen, images().x.shape[1:]), chosen)
    monkeypatch.setattr(zoo_torch, "build", lambda *_: same)
    on_jax, on_torch = (zoo.train(chosen, images(), small_loss=0.0, most_epochs=3) for zoo in (zoo_jax, zoo_torch))
    assert on_jax.epochs == on_torch.epochs == 3
    for found, expected, initial in zip(on_jax.weights, on_torch.weights, on_jax.initial, strict=True):
        moved = abs(expected - initial).max()
        assert abs(found - expected).max() < 1e-3 * moved, f"differ by {abs(found - expected).max()}, moved by {moved}"


def test_the_same_setting_gives_the_same_bits() -> None:
    chosen = setting("lenet", norm=True, batch_size=16)
    first, second = (zoo_jax.train(chosen, images(), most_epochs=2) for _ in range(2))
    assert first.loss == second.loss
    assert all((a == b).all() for a, b in zip(first.weights, second.weights, strict=True))


def test_other_seeds_give_other_networks() -> None:
    first, second = (zoo_jax.weights(zoo_jax.build(setting("mlp", seed=seed), (1, 8, 8))) for seed in range(2))
    assert all((a != b).any() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("architecture", ["mlp", "lenet", "resnet"])
def test_initial_weights_have_the_distribution_of_torch(architecture: str) -> None:
    chosen = Setting(architecture=architecture, width=64)
    found = zoo_jax.weights(zoo_jax.build(chosen, (3, 16, 16)))
    expected = [p.detach().numpy() for p in zoo_torch.build(chosen, (3, 16, 16)).parameters() if p.dim() > 1]
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.std() == pytest.approx(b.std(), rel=0.1)
        assert abs(a).max() == pytest.approx(abs(b).max(), rel=0.02)


def test_training_stops_at_a_small_loss() -> None:
    trained = zoo_jax.train(Setting(width=32, depth=1, batch_size=8), images())
    assert trained.loss <= zoo_jax.SMALL_LOSS
    assert trained.epochs < zoo_jax.MOST_EPOCHS
