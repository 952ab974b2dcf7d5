"""The rescaling symmetries of small networks as they follow from their layers, written down as they print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from zoo.symmetric_modules import (
    Attention,
    Concatenation,
    Cosine,
    DeadInput,
    FusedAttention,
    GainedBranch,
    Gated,
    LayerNorm,
    Masked,
    Power,
    Product,
    Recurrent,
    Residual,
    SqueezeAndExcitation,
    TiedEmbedding,
    TiedLayers,
    TiedToTheInputs,
    WeightNorm,
    Words,
    convolutions_with_batch_norm,
    dropped_out,
    grouped_convolutions,
    perceptron,
    pooled_and_flattened,
    root_mean_square,
    transposed_convolutions,
)


@dataclass(frozen=True)
class Example:
    """A network, the shape of its inputs (all but the first, the number of examples), and what leaves it alone.

    ``idle`` counts rows and columns that do not act on the outputs.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    symmetries: set[str]
    idle: int = 0
    tokens: int = 0

    def inputs(self) -> torch.Tensor:
        """Eight of them."""
        generator = torch.Generator().manual_seed(1)
        if self.tokens:
            return torch.randint(0, self.tokens, (8, *self.shape), generator=generator)
        return torch.randn(8, *self.shape, generator=generator, dtype=torch.float64)

    def model(self) -> nn.Module:
        """In double precision and eval mode, with random parameters and random statistics of batch norms."""
        torch.manual_seed(0)
        model = self.build().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
        return model


CHAIN = {f"0.weight[{i}], 0.bias[{i}] up, 2.weight[:, {i}] down" for i in range(6)} | {
    f"2.weight[{i}], 2.bias[{i}] up, 4.weight[:, {i}] down" for i in range(5)
}

EXAMPLES = {
    "perceptron": Example(lambda: perceptron(nn.ReLU), (4,), CHAIN),
    "leaky perceptron": Example(lambda: perceptron(nn.LeakyReLU), (4,), CHAIN),
    "perceptron of tanh": Example(lambda: perceptron(nn.Tanh), (4,), set()),
    "perceptron of GELU": Example(lambda: perceptron(nn.GELU), (4,), set()),
    "perceptron without biases": Example(
        lambda: perceptron(nn.ReLU, bias=False),
        (4,),
        {f"0.weight[{i}] up, 2.weight[:, {i}] down" for i in range(6)}
        | {f"2.weight[{i}] up, 4.weight[:, {i}] down" for i in range(5)},
    ),
    "one layer": Example(lambda: nn.Linear(4, 3), (4,), set()),
    "residual": Example(
        Residual,
        (4,),
        {f"inner.weight[{i}], inner.bias[{i}] up, outer.weight[:, {i}] down" for i in range(5)}
        | {
            f"stem.weight[{k}], stem.bias[{k}], outer.weight[{k}], outer.bias[{k}] up, "
            f"inner.weight[:, {k}], head.weight[:, {k}] down"
            for k in range(6)
        },
    ),
    "gained branch": Example(
        GainedBranch,
        (4,),
        {f"inner.weight[{i}], inner.bias[{i}] up, outer.weight[:, {i}] down" for i in range(5)}
        | {f"gain[{k}] up, outer.weight[{k}], outer.bias[{k}] down" for k in range(6)},
    ),
    "convolutions with batch norm": Example(
        convolutions_with_batch_norm,
        (2, 6, 6),
        {f"1.weight[{i}], 1.bias[{i}] up, 3.weight[:, {i}] down" for i in range(4)}
        | {f"4.weight[{i}], 4.bias[{i}] up, 8.weight[:, {i}] down" for i in range(3)},
    ),
    "gated": Example(Gated, (4,), {f"up.weight[{i}], up.bias[{i}] up, down.weight[:, {i}] down" for i in range(6)}),
    "product": Example(
        Product,
        (4,),
        {
            f"{name}.weight[{i}], {name}.bias[{i}] up, head.weight[:, {i}] down"
            for name in ("a", "b", "c")
            for i in range(5)
        },
    ),
    "attention": Example(
        Attention,
        (3, 5),
        {f"query.weight[{i}], query.bias[{i}] up, key.weight[{i}] down" for i in range(4)}
        | {f"value.weight[{i}], value.bias[{i}] up, out.weight[:, {i}] down" for i in range(4)},
        idle=4,
    ),
    "fused attention": Example(
        FusedAttention,
        (3, 4),
        {
            f"attention.in_proj_weight[{i}], attention.in_proj_bias[{i}] up, attention.in_proj_weight[{i + 4}] down"
            for i in range(4)
        }
        | {
            f"attention.in_proj_weight[{i + 8}], attention.in_proj_bias[{i + 8}] up, "
            f"attention.out_proj.weight[:, {i}] down"
            for i in range(4)
        }
        | {
            f"attention.out_proj.weight[{i}], attention.out_proj.bias[{i}] up, head.weight[:, {i}] down"
            for i in range(4)
        },
        idle=4,
    ),
    "grouped convolutions": Example(
        grouped_convolutions,
        (2, 6, 6),
        {
            f"0.weight[{i}], 0.bias[{i}] up, 2.weight[{rows}, {column}] down"
            for i, (rows, column) in enumerate([("0:3", 0), ("0:3", 1), ("3:6", 0), ("3:6", 1)])
        }
        | {f"2.weight[{i}], 2.bias[{i}] up, 4.weight[{i}] down" for i in range(6)}
        | {f"4.weight[{i}], 4.bias[{i}] up, 8.weight[:, {i}] down" for i in range(6)},
    ),
    "transposed convolutions": Example(
        transposed_convolutions,
        (2, 4, 4),
        {f"0.weight[:, {i}], 0.bias[{i}] up, 2.weight[{i}] down" for i in range(4)}
        | {
            f"2.weight[{rows}, {column}], 2.bias[{i}] up, 6.weight[:, {9 * i}:{9 * i + 9}] down"
            for i, (rows, column) in enumerate((rows, column) for rows in ("0:2", "2:4") for column in range(3))
        },
    ),
    "squeeze and excitation": Example(
        SqueezeAndExcitation,
        (2, 6, 6),
        {f"first.weight[{i}], first.bias[{i}] up, squeeze.weight[:, {i}], head.weight[:, {i}] down" for i in range(4)}
        | {f"squeeze.weight[{i}], squeeze.bias[{i}] up, excite.weight[:, {i}] down" for i in range(2)},
    ),
    "layer norm": Example(
        LayerNorm,
        (4,),
        {f"norm.weight[{i}], norm.bias[{i}] up, a.weight[:, {i}], b.weight[:, {i}] down" for i in range(5)},
    ),
    "root mean square": Example(
        lambda: root_mean_square(1e-3), (4,), {f"1.weight[{i}] up, 2.weight[:, {i}] down" for i in range(5)}
    ),
    "root mean square without a constant": Example(
        lambda: root_mean_square(0.0),
        (4,),
        {f"1.weight[{i}] up, 2.weight[:, {i}] down" for i in range(5)} | {"0.weight, 0.bias up"},
    ),
    "tied layers": Example(
        TiedLayers,
        (5,),
        {
            f"stem.weight[{i}], stem.bias[{i}], twice.weight[{i}], twice.bias[{i}] up, "
            f"twice.weight[:, {i}], head.weight[:, {i}] down"
            for i in range(6)
        },
    ),
    "tied to the inputs": Example(TiedToTheInputs, (4,), {"head.weight down, twice.weight to the power 0.5"}),
    "tied embedding": Example(
        TiedEmbedding,
        (5,),
        {
            f"words.weight[:, {i}] up, hidden.weight[{i}], hidden.weight[:, {i}], hidden.bias[{i}] down"
            for i in range(4)
        },
        tokens=7,
    ),
    "words": Example(
        Words,
        (5,),
        {f"words.weight[:, {i}] up, hidden.weight[:, {i}] down" for i in range(4)}
        | {f"hidden.weight[{i}], hidden.bias[{i}] up, head.weight[:, {i}] down" for i in range(5)},
        idle=2,
        tokens=7,
    ),
    "recurrent ReLU": Example(
        lambda: Recurrent(nn.RNN, nonlinearity="relu"),
        (5, 3),
        {
            f"cell.weight_ih_l0[{i}], cell.weight_hh_l0[{i}], cell.bias_ih_l0[{i}], cell.bias_hh_l0[{i}] up, "
            f"cell.weight_hh_l0[:, {i}], head.weight[:, {i}] down"
            for i in range(4)
        },
    ),
    "gated recurrent unit": Example(lambda: Recurrent(nn.GRU), (5, 3), set()),
    "long short-term memory": Example(lambda: Recurrent(nn.LSTM), (5, 3), set()),
    "pooled and flattened": Example(
        pooled_and_flattened,
        (1, 6, 6),
        {f"0.weight[{i}], 0.bias[{i}] up, 4.weight[:, {4 * i}:{4 * i + 4}] down" for i in range(3)},
    ),
    "concatenation": Example(
        Concatenation,
        (4,),
        {f"a.weight[{i}], a.bias[{i}] up, head.weight[:, {i}] down" for i in range(2)}
        | {f"b.weight[{i}], b.bias[{i}] up, head.weight[:, {i + 2}] down" for i in range(3)},
    ),
    "squared ReLU": Example(
        lambda: Power(2),
        (4,),
        {f"head.weight[:, {i}] down, inner.weight[{i}], inner.bias[{i}] to the power 0.5" for i in range(5)},
    ),
    "fifth power of ReLU": Example(
        lambda: Power(5),
        (4,),
        {f"head.weight[:, {i}] down, inner.weight[{i}], inner.bias[{i}] to the power 0.2" for i in range(5)},
    ),
    "weight norm": Example(
        WeightNorm,
        (4,),
        {f"direction[{i}] up" for i in range(5)}
        | {f"length[{i}], bias[{i}] up, head.weight[:, {i}] down" for i in range(5)},
    ),
    "cosine": Example(
        Cosine,
        (4,),
        {f"inner.weight[{i}], inner.bias[{i}] up, head.weight[:, {i}] down" for i in range(6)}
        | {"head.weight, head.bias up"},
    ),
    "masked": Example(
        Masked,
        (4,),
        {f"a.weight[{i}], a.bias[{i}] up, b.weight[:, {i}] down" for i in range(6)}
        | {f"b.weight[{i}], b.bias[{i}] up, head.weight[:, {i}] down" for i in range(6)},
    ),
    "dropped out": Example(
        dropped_out, (4,), {f"0.weight[{i}], 0.bias[{i}] up, 3.weight[:, {i}] down" for i in range(6)}
    ),
    "dead input": Example(
        DeadInput,
        (4,),
        {f"layers.0.weight[{i}], layers.0.bias[{i}] up, layers.2.weight[:, {i}] down" for i in range(6)}
        | {f"layers.2.weight[{i}], layers.2.bias[{i}] up, layers.4.weight[:, {i}] down" for i in range(5)},
        idle=1,
    ),
}
