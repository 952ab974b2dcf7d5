"""Models that mix the examples of a batch, or are no one function, are refused by name; innocent ones are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError

ROWS = 12


class Model(nn.Module):
    """A layer, something between, and a layer."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor] | nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(torch.tanh(self.first(x))))


def opposite(h: torch.Tensor) -> torch.Tensor:
    return h - h.roll(len(h) // 2, 0)


def paired(h: torch.Tensor) -> torch.Tensor:
    return (h.reshape(len(h) // 2, 2, -1) - h.reshape(len(h) // 2, 2, -1).mean(1, keepdim=True)).reshape(h.shape)


def attending(h: torch.Tensor) -> torch.Tensor:
    return (h @ h.T).softmax(1) @ h


def within_capacity(h: torch.Tensor) -> torch.Tensor:
    """An expert takes the first four tokens alone."""
    return h * (torch.arange(len(h)) < 4)[:, None]


MIXING: dict[str, Any] = {
    "mean": lambda h: h - h.mean(0),
    "largest": lambda h: h / h.abs().max(),
    "rank": lambda h: h * h.argsort(0).argsort(0),
    "neighbor": lambda h: h + 0.5 * h.roll(1, 0),
    "earlier": lambda h: h.cumsum(0),
    "batch normalization": lambda h: nn.functional.batch_norm(h, None, None, training=True),
    "opposite": opposite,
    "paired": paired,
    "attention over the batch": attending,
    "capacity": within_capacity,
}


def data(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, 3, generator=generator).to(dtype), torch.arange(ROWS) % 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MIXING)
def test_model_that_mixes_examples_is_refused(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Model(MIXING[name]).to(dtype).eval()
    with pytest.raises(ModelError, match=r'batch 0|other outputs in a smaller batch.*examples="batches"'):
        ish.oracle(model, data(dtype))
    assert ish.oracle(model, data(dtype), examples="batches").examples == 1


MARKED: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean of the marked": lambda h, m: h - m * (m * h).sum(0) / m.sum().clamp(min=1),
    "sum of the marked": lambda h, m: h + m * (m * h).sum(0).square(),
    "attention among the marked": lambda h, m: h + m * (h @ h.T - 9 * (1 - m.T)).softmax(1) @ h,
    "from the ninth on": lambda h, _: torch.cat([h[:8], h[8:] - h[8:].mean(0)]),
}


class Marked(Model):
    """What comes between sees the examples whose first input is negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x))
        return self.second(self.between(h, (x[:, :1] < 0).to(h)))  # type: ignore[call-arg]


@pytest.mark.parametrize("name", MARKED)
def test_model_that_mixes_later_examples_alone_is_refused(name: str) -> None:
    """In the second batch, and behind what layers are tested on."""
    torch.manual_seed(0)
    x = torch.randn(40, 3).abs()
    x[22:, 0] *= -1
    batches = [(x[:20], torch.arange(20) % 3), (x[20:], torch.arange(20) % 3)]
    where = "" if name == "from the ninth on" else "batch 1: "
    with pytest.raises(ModelError, match=rf'^{where}the same examples have other outputs.*examples="batches"'):
        ish.oracle(Marked(MARKED[name]).eval(), batches)


def test_model_for_one_size_of_batch_is_told_what_to_write() -> None:
    torch.manual_seed(0)
    model = Model(lambda h: h.reshape(ROWS, 4) + torch.ones(ROWS, 1))
    with pytest.raises(ModelError, match=r'not some of its examples.*pass examples="batches"'):
        ish.oracle(model, data(torch.float32))


class Graph(nn.Module):
    """Messages along edges; the batch is a graph, whose nodes have labels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(nodes))
        return self.second(h.index_add(0, edges[1], h[edges[0]]))


def test_graphs_are_whole_examples() -> None:
    torch.manual_seed(0)
    model = Graph().double()
    x, y = data(torch.float64)
    graphs = [
        {"nodes": x[:7], "edges": torch.tensor([[0, 1, 2, 6], [1, 2, 3, 0]]), "labels": y[:7]},
        {"nodes": x[7:], "edges": torch.tensor([[0, 1, 2], [4, 0, 3]]), "labels": y[7:]},
    ]
    with pytest.raises(ModelError, match='examples="batches"'):
        ish.oracle(model, graphs)
    oracle = ish.oracle(model, graphs, nn.functional.cross_entropy, examples="batches")
    losses = [nn.functional.cross_entropy(model(g["nodes"], g["edges"]), g["labels"]) for g in graphs]
    trace = sum(
        torch.autograd.functional.hessian(
            lambda w, g=g: nn.functional.cross_entropy(
                torch.func.functional_call(model, {"second.weight": w}, (g["nodes"], g["edges"])), g["labels"]
            ),
            model.second.weight.detach(),
        )
        .reshape(12, 12)
        .trace()
        .item()
        / 2
        for g in graphs
    )
    assert oracle.loss(oracle.parameters) == pytest.approx(sum(losses).item() / 2, rel=1e-12)
    found = ish.hessian_trace(ish.Restricted(oracle, "second.weight"))
    assert found.value == pytest.approx(trace, rel=1e-9), f"{found}"


def test_batch_statistics_are_measured_where_a_batch_is_one_example() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).double().train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, y = data(torch.float64)
    with pytest.raises(ModelError, match="in training mode"):
        ish.oracle(model, (x, y))
    oracle = ish.oracle(model, (x, y), examples="batches")
    expected = nn.functional.cross_entropy(model.train()(x), y).item()
    model.load_state_dict(state)
    assert oracle.loss(oracle.parameters) == pytest.approx(expected, rel=1e-12)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items()), (
        "statistics have changed"
    )
    model.append(nn.Dropout())
    with pytest.raises(ModelError, match=r"'4' \(Dropout\) make the loss random"):
        oracle.loss(oracle.parameters)


class Padded(nn.Module):
    """Packed sequences, longest first, padded to the longest of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.head(nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])


def innocent() -> dict[str, tuple[nn.Module, Any, Any]]:
    """Models of everyday, with their data."""
    x, y = data(torch.float32)
    lengths = torch.arange(ROWS, 0, -1)
    steps = torch.randn(ROWS, ROWS, 2)
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4))
    return {
        "perceptron": (Model(nn.Identity()), (x, y), "cross_entropy"),
        "layer norm": (Model(nn.LayerNorm(4)), (x, y), "cross_entropy"),
        "batch norm": (Model(nn.BatchNorm1d(4)), (x, y), "cross_entropy"),
        "rounded inside": (Model(lambda h: h.to(torch.bfloat16).to(h)), (x, y), "cross_entropy"),
        "spectral norm": (nn.Sequential(spectral, nn.Tanh(), nn.Linear(4, 3)), (x, y), "cross_entropy"),
        "packed": (
            Padded(),
            {"x": steps, "lengths": lengths, "labels": y},
            lambda o, y: o.square().mean((1, 2)) + 0 * y,
        ),
        "zero biases, black pixels": (_black(), (x.abs() * (x > 0.5), y), "cross_entropy"),
        "one row": (Model(nn.Identity()), (x[:1], y[:1]), "cross_entropy"),
        "top expert": (Model(lambda h: h * (h == h.max(1, keepdim=True).values)), (x, y), "cross_entropy"),
        "zero weights": (_zeros(), (x, y), "cross_entropy"),
        "half": (Model(nn.Identity()).to(torch.bfloat16), (x, y), "cross_entropy"),
    }


def _black() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    for layer in list(model)[::2]:
        nn.init.zeros_(layer.bias)
    return model


def _zeros() -> nn.Module:
    model = Model(torch.relu)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize("dtype", [None, "float64"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", innocent())
def test_innocent_models_are_measured(name: str, seed: int, dtype: Any) -> None:
    torch.manual_seed(seed)
    model, batches, loss = innocent()[name]
    for size in (256, 5):
        oracle = ish.oracle(model.eval(), batches, loss, dtype=dtype, batch_size=size)
        assert oracle.loss(oracle.parameters) >= 0
