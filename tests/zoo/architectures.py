"""Small float64 architectures, each with the parameters in which its outputs are piecewise affine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

Tensor = torch.Tensor


@dataclass(frozen=True)
class Architecture:
    """How to build a network of 3 outputs, what it takes, and which groups cannot be exact.

    ``reference`` says how the dense Hessian is found: ``"functional"`` by torch.func, ``"differences"`` by central
    differences of the gradient, for modules without forward-mode derivatives.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    refused: frozenset[str] = frozenset()
    reference: Literal["functional", "differences"] = "functional"
    tokens: int | None = None

    def problem(self, examples: int = 6) -> tuple[nn.Module, Tensor, Tensor]:
        torch.manual_seed(1)
        model = self.build().double().eval()
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.uniform_(0.5, 2)
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        size = (examples, *self.shape)
        x = torch.randn(size, dtype=torch.float64) if self.tokens is None else torch.randint(0, self.tokens, size)
        return model, x, torch.randint(0, 3, (examples,))


class Composed(nn.Module):
    """Named parts and a function of them: a forward pass in one line."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.pass_through = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.pass_through(self, x)


def mlp(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), activation, nn.Linear(5, 3))


def convolution(layer: nn.Module, *, axes: int = 2) -> nn.Module:
    pool = tuple(range(2, 2 + axes))
    return Composed(lambda s, x: s.head(functional.relu(s.layer(x)).mean(pool)), layer=layer, head=nn.LazyLinear(3))


def built(network: nn.Module, *shape: int) -> nn.Module:
    """Let lazy layers take their shapes."""
    network(torch.zeros(1, *shape))
    return network


def classifier(table: nn.Module) -> nn.Module:
    return Composed(lambda s, x: s.head(functional.relu(s.table(x)).mean(1)), table=table, head=nn.Linear(4, 3))


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    network[2].weight = network[0].weight
    return network


def pruned() -> nn.Module:
    network = mlp(nn.ReLU())
    prune.random_unstructured(network[0], "weight", 0.4)
    return network


def with_token() -> nn.Module:
    def forward(s: Composed, x: Tensor) -> Tensor:
        x = torch.cat([s.token.expand(len(x), 1, 4), x], dim=1) + s.position
        return s.head(functional.relu(s.mix(x)).mean(1))

    token, position = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4, 4))
    return Composed(forward, token=token, position=position, mix=nn.Linear(4, 5), head=nn.Linear(5, 3))


def swiglu() -> nn.Module:
    def forward(s: Composed, x: Tensor) -> Tensor:
        return s.down(functional.silu(s.gate(x)) * s.up(x))

    return Composed(forward, gate=nn.Linear(4, 5), up=nn.Linear(4, 5), down=nn.Linear(5, 3))


def attention() -> nn.Module:
    def forward(s: Composed, x: Tensor) -> Tensor:
        return s.head(s.mix(x, x, x, need_weights=False)[0].mean(1))

    return Composed(forward, mix=nn.MultiheadAttention(4, 2, batch_first=True), head=nn.Linear(4, 3))


def encoder(*, batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 6, activation="gelu", batch_first=batch_first)
    if batch_first:
        return Composed(lambda s, x: s.head(s.layer(x).mean(1)), layer=layer, head=nn.Linear(4, 3))
    return Composed(lambda s, x: s.head(s.layer(x.transpose(0, 1)).mean(0)), layer=layer, head=nn.Linear(4, 3))


def recurrent(cell: nn.Module) -> nn.Module:
    return Composed(lambda s, x: s.head(s.cell(x)[0][:, -1]), cell=cell, head=nn.Linear(3, 3))


def two_passes(forward: Callable[..., Tensor], width: int = 4) -> nn.Module:
    return Composed(forward, shared=nn.Linear(4, width), head=nn.Linear(width, 3))


def branches(join: Callable[[Tensor, Tensor], Tensor]) -> nn.Module:
    def forward(s: Composed, x: Tensor) -> Tensor:
        return s.head(join(functional.relu(s.left(x)), s.right(x)))

    return Composed(forward, left=nn.Linear(4, 5), right=nn.Linear(4, 5), head=nn.Linear(5, 3))


def first_and(*names: str) -> frozenset[str]:
    return frozenset({"0.weight", "0.bias", *names})


RECURRENT = frozenset(f"cell.{kind}_{way}h_l0" for kind in ("weight", "bias") for way in "ih")
ENCODER = {"norm1.weight", "norm1.bias", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"}
ENCODER |= {f"self_attn.{name}" for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")}
REFUSED_ENCODER = frozenset(f"layer.{name}" for name in ENCODER)
MIX = frozenset({"mix.in_proj_weight", "mix.in_proj_bias"})
relu = functional.relu

ARCHITECTURES: dict[str, Architecture] = {
    "leaky_relu": Architecture(lambda: mlp(nn.LeakyReLU(0.1)), (4,)),
    "prelu": Architecture(lambda: mlp(nn.PReLU(5)), (4,)),
    "relu_in_place": Architecture(lambda: mlp(nn.ReLU(inplace=True)), (4,)),
    "gelu": Architecture(lambda: mlp(nn.GELU()), (4,), first_and()),
    "tanh": Architecture(lambda: mlp(nn.Tanh()), (4,), first_and()),
    "layer_norm": Architecture(
        lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3)), (4,), first_and()
    ),
    "rms_norm": Architecture(
        lambda: nn.Sequential(nn.Linear(4, 5), nn.RMSNorm(5), nn.ReLU(), nn.Linear(5, 3)), (4,), first_and()
    ),
    "group_norm": Architecture(
        lambda: built(
            nn.Sequential(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)), 2, 3, 3
        ),
        (2, 3, 3),
        first_and(),
    ),
    "instance_norm": Architecture(
        lambda: built(
            nn.Sequential(
                nn.Conv2d(2, 3, 2), nn.InstanceNorm2d(3, affine=True), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
            ),
            2,
            3,
            3,
        ),
        (2, 3, 3),
        frozenset({"0.weight"}),
    ),
    "batch_norm": Architecture(
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)), (4,)
    ),
    "batch_norm_2d": Architecture(
        lambda: built(convolution(nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3))), 2, 4, 4), (2, 4, 4)
    ),
    "conv1d": Architecture(lambda: built(convolution(nn.Conv1d(2, 3, 3, padding=1), axes=1), 2, 5), (2, 5)),
    "conv3d": Architecture(lambda: built(convolution(nn.Conv3d(1, 2, 2), axes=3), 1, 3, 3, 3), (1, 3, 3, 3)),
    "circular_dilated": Architecture(
        lambda: built(convolution(nn.Conv2d(2, 3, 2, padding=2, dilation=2, padding_mode="circular")), 2, 4, 4),
        (2, 4, 4),
    ),
    "same_padding": Architecture(lambda: built(convolution(nn.Conv2d(2, 3, 2, padding="same")), 2, 4, 4), (2, 4, 4)),
    "depthwise": Architecture(lambda: built(convolution(nn.Conv2d(3, 6, 2, groups=3, stride=2)), 3, 4, 4), (3, 4, 4)),
    "transposed": Architecture(
        lambda: built(convolution(nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2, output_padding=1)), 4, 2, 2),
        (4, 2, 2),
    ),
    "transposed_to_size": Architecture(
        lambda: Composed(
            lambda s, x: s.layer(x, output_size=[6, 6]).square().mean((2, 3)),
            layer=nn.ConvTranspose2d(2, 3, 3, stride=2),
        ),
        (2, 2, 2),
        frozenset({"layer.weight", "layer.bias"}),
    ),
    "swiglu": Architecture(swiglu, (4,), frozenset({"gate.weight", "gate.bias"})),
    "tied": Architecture(tied, (4,), frozenset({"0.weight"})),
    "twice_in_a_row": Architecture(
        lambda: two_passes(lambda s, x: s.head(relu(s.shared(relu(s.shared(x)))))),
        (4,),
        frozenset({"shared.weight"}),
    ),
    "twice_side_by_side": Architecture(
        lambda: two_passes(lambda s, x: s.head(relu(s.shared(x) + s.shared(x.flip(1))))), (4,)
    ),
    "weight_outside_of_its_module": Architecture(
        lambda: two_passes(lambda s, x: s.head(relu(s.shared(x) + functional.linear(x.flip(1), s.shared.weight)))), (4,)
    ),
    "keyword_call": Architecture(lambda: two_passes(lambda s, x: s.head(input=relu(s.shared(input=x)))), (4,)),
    "residual": Architecture(lambda: two_passes(lambda s, x: s.head(x + relu(s.shared(x)))), (4,)),
    "two_branches": Architecture(lambda: branches(torch.add), (4,)),
    "product_of_branches": Architecture(lambda: branches(torch.mul), (4,)),
    "bilinear": Architecture(
        lambda: Composed(lambda s, x: s.head(s.form(x, x)), form=nn.Bilinear(4, 4, 3), head=nn.Linear(3, 3)),
        (4,),
        reference="differences",
    ),
    "bare_parameters": Architecture(with_token, (3, 4)),
    "scalar_parameter": Architecture(
        lambda: Composed(lambda s, x: s.scale * s.body(x), body=mlp(nn.ReLU()), scale=nn.Parameter(torch.tensor(2.0))),
        (4,),
    ),
    "unused_parameter": Architecture(
        lambda: Composed(lambda s, x: s.body(x), body=mlp(nn.ReLU()), spare=nn.Linear(2, 2)), (4,)
    ),
    "pruned": Architecture(pruned, (4,)),
    "spectral_norm": Architecture(
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 3)),
        (4,),
        frozenset({"0.parametrizations.weight.original"}),
    ),
    "embedding": Architecture(lambda: classifier(nn.Embedding(5, 4)), (6,), tokens=5),
    "padded_embedding": Architecture(lambda: classifier(nn.Embedding(5, 4, padding_idx=0)), (6,), tokens=5),
    "sequence": Architecture(lambda: two_passes(lambda s, x: s.head(relu(s.shared(x))).mean(1)), (5, 4)),
    "sequence_first": Architecture(
        lambda: two_passes(lambda s, x: s.head(relu(s.shared(x.transpose(0, 1)))).mean(0)), (6, 4)
    ),
    "positions_as_rows": Architecture(
        lambda: two_passes(lambda s, x: s.head(relu(s.shared(x.flatten(0, 1)))).unflatten(0, (-1, 3)).mean(1)), (3, 4)
    ),
    "attention": Architecture(attention, (3, 4), MIX, "differences"),
    "encoder": Architecture(lambda: encoder(batch_first=True), (3, 4), REFUSED_ENCODER, "differences"),
    "encoder_sequence_first": Architecture(lambda: encoder(batch_first=False), (3, 4), REFUSED_ENCODER, "differences"),
    "lstm": Architecture(lambda: recurrent(nn.LSTM(2, 3, batch_first=True)), (3, 2), RECURRENT, "differences"),
    "gru": Architecture(lambda: recurrent(nn.GRU(2, 3, batch_first=True)), (3, 2), RECURRENT, "differences"),
}
