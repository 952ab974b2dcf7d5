"""The engine of PyTorch keeps its contract, and waits for the device once in each pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import invariant_sharpness as ish
from invariant_sharpness.testing import check_engine
from zoo.torch_networks import random_problem


class HostReads(TorchDispatchMode):
    """Counts operations that hand numbers of tensors to Python, which wait for a device."""

    WAITING = (
        "_local_scalar_dense",
        "item",
        "equal",
        "is_nonzero",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING or (name == "index" and any(_is_mask(index) for index in args[1])):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype == torch.bool


def tokens() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layers = nn.Embedding(7, 6), nn.Linear(6, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3)
    return nn.Sequential(*layers).double(), torch.randint(0, 7, (9, 4)), torch.randint(0, 3, (9, 4))


NETWORKS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor, torch.Tensor]]] = {
    "mlp": lambda: random_problem("mlp", examples=9),
    "cnn": lambda: random_problem("cnn", examples=9),
    "tokens": tokens,
}

PASSES: dict[str, Callable[[Any, Any, frozenset[str]], Any]] = {
    "loss": lambda oracle, p, _: oracle.loss(p),
    "gradient": lambda oracle, p, _: oracle.gradient(p),
    "products": lambda oracle, p, _: oracle.hessian_vector_products(p, [p, p]),
    "Gauss-Newton product": lambda oracle, p, _: oracle.gauss_newton_vector_product(p, p),
    "Gauss-Newton diagonal": lambda oracle, p, names: oracle.gauss_newton_diagonal(p, names),
    "sampled diagonal": lambda oracle, p, names: oracle.sampled_gauss_newton_diagonal(p, names, range(2), 0),
    "second moments": lambda oracle, p, _: oracle.gradient_second_moment(p),
    "squared slopes": lambda oracle, p, _: oracle.directional_second_moment(p, p),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_engine_keeps_its_contract(network: str) -> None:
    model, x, y = NETWORKS[network]()
    results = check_engine(ish.oracle(model.eval(), (x, y)).engine, (x, y))
    assert [result.status for result in results] == ["passed"] * 4, "\n".join(map(str, results))


@pytest.mark.parametrize("what", PASSES)
def test_a_pass_reads_once(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 9 examples in three batches; buffers, which this network has none of, would be read together once more."""
    model, x, y = tokens()
    oracle = ish.oracle(model, (x, y), batch_size=4)
    names = frozenset(group.name for group in oracle.groups)
    oracle.gauss_newton_diagonal(oracle.parameters, names)  # tests the rules of the layers, once for the engine
    reads: list[int] = []
    read = oracle.engine.read
    monkeypatch.setattr(oracle.engine, "read", lambda tree: (reads.append(1), read(tree))[1])
    with HostReads() as waiting:
        PASSES[what](oracle, oracle.parameters, names)
    assert (len(reads), waiting.found) == (1, []), f"{len(reads)} reads, and {waiting.found} beside them"


@pytest.mark.parametrize("buffers", [1, 5])
def test_buffers_are_compared_in_one_read(buffers: int) -> None:
    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.buffer_0 += 1
            return super().forward(x)

    model = Counting(5, 3)
    for number in range(buffers):
        model.register_buffer(f"buffer_{number}", torch.zeros(2))
    oracle = ish.oracle(model, (torch.randn(6, 5), torch.arange(6) % 3), batch_size=2)
    point = oracle.parameters
    oracle.gradient(point)  # the first pass looks, once for the oracle, whether there are derivatives at all
    reads: list[Any] = []
    to_list = torch.Tensor.tolist
    with pytest.MonkeyPatch.context() as patch, HostReads() as waiting:
        patch.setattr(torch.Tensor, "tolist", lambda tensor: (reads.append(tensor), to_list(tensor))[1])
        oracle.gradient(point)
    assert (len(reads), waiting.found) == (1, []), f"{len(reads)} reads of flags, and {waiting.found}"
    assert float(model.buffer_0.sum()) == 0, "the buffer was not put back"


def test_a_point_is_closed_after_its_block() -> None:
    model, x, y = random_problem("mlp", examples=5)
    engine = ish.oracle(model, (x, y)).engine
    with engine.at(engine.parameters()) as point:
        point.losses(engine.batch((x, y)))
    with pytest.raises(RuntimeError, match=r"point is closed.*engine\.at"):
        point.losses(engine.batch((x, y)))
