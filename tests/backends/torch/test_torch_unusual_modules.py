"""Modules that are not made of plain layers alone: each has the values of a twin that is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from zoo.wrapped_networks import METRICS, Around, Function, inputs, network, targets, values


def slopes(body: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The derivative of a network's squared outputs in its inputs, by autograd."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(body(leaf).square().sum(), leaf, create_graph=True)[0]


def along_ones(body: nn.Module, x: torch.Tensor) -> torch.Tensor:
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        outputs = body(leaf)
        cotangents = torch.ones_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, leaf, cotangents, create_graph=True)
        return torch.autograd.grad(pulled.sum(), cotangents, create_graph=True)[0]


TRANSFORMED: dict[str, tuple[Function, Function]] = {
    "vmap": (lambda body, x: torch.func.vmap(body)(x), lambda body, x: body(x)),
    "grad": (lambda body, x: torch.func.vmap(torch.func.grad(lambda z: body(z).square().sum()))(x), slopes),
    "jvp": (lambda body, x: torch.func.jvp(body, (x,), (torch.ones_like(x),))[1], along_ones),
    "jacrev": (lambda body, x: torch.func.vmap(torch.func.jacrev(body))(x).sum(dim=-1), along_ones),
    "functional_call": (
        lambda body, x: torch.func.functional_call(body, dict(body.named_parameters()), (x,)),
        lambda body, x: body(x),
    ),
}


@pytest.mark.parametrize("what", TRANSFORMED)
def test_transformations_of_torch_func_inside_a_model(what: str) -> None:
    found, expected = (values(Around(function, network())) for function in TRANSFORMED[what])
    assert found == pytest.approx(expected, rel=1e-9)


def gated(z: torch.Tensor) -> torch.Tensor:
    return torch.tanh(z) * z


OVERWRITING: dict[str, tuple[Function, Function]] = {
    "rectifier": (
        lambda body, x: body(nn.functional.relu(x, inplace=True)),
        lambda body, x: body(nn.functional.relu(x)),
    ),
    "scaling": (lambda body, x: body(x.mul_(2.0)), lambda body, x: body(2.0 * x)),
    "masking": (lambda body, x: body(x.masked_fill_(x < 0, -1.0)), lambda body, x: body(x.masked_fill(x < 0, -1.0))),
    "copying": (lambda body, x: body(x.copy_(x.sin())), lambda body, x: body(x.sin())),
}


@pytest.mark.parametrize("what", OVERWRITING)
def test_model_that_overwrites_its_inputs_has_copies_of_them(what: str) -> None:
    found, expected = (values(Around(function, network())) for function in OVERWRITING[what])
    assert found == expected


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "targets": lambda z, y: (z - y.mul_(2.0)).square().sum(dim=1),
    "outputs": lambda z, y: z.sub_(2.0 * y).square().sum(dim=1),
    "both": lambda z, y: z.sub_(y.add_(y)).square().sum(dim=1),
}


@pytest.mark.parametrize("what", LOSSES)
def test_loss_that_overwrites_its_arguments_has_copies_of_them(what: str) -> None:
    assert values(network(), LOSSES[what]) == values(network(), lambda z, y: (z - 2.0 * y).square().sum(dim=1))


def scripted_part(model: nn.Sequential) -> nn.Module:
    model[0] = torch.jit.script(model[0])
    return model


WRITTEN_DOWN: dict[str, Callable[[nn.Sequential], nn.Module]] = {
    "script": torch.jit.script,
    "script of a part": scripted_part,
    "trace": lambda model: torch.jit.trace(model, inputs()),
    "graph": torch.fx.symbolic_trace,
    "export": lambda model: torch.export.export(
        model, (inputs(),), dynamic_shapes=({0: torch.export.Dim("n")},)
    ).module(),
}


@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=[pytest.mark.slow] if w == "export" else []) for w in WRITTEN_DOWN]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_traced_and_exported_modules(what: str) -> None:
    assert values(WRITTEN_DOWN[what](network())) == pytest.approx(values(network()), rel=1e-9)


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(2, 4, 2, groups=2), nn.ConvTranspose1d(2, 4, 2), nn.Embedding(7, 3), nn.BatchNorm1d(4)]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_layers_have_the_roles_of_their_layers(layer: nn.Module) -> None:
    from invariant_sharpness_torch.groups import parameter_groups

    names = frozenset(dict(layer.named_parameters()))
    assert parameter_groups(torch.jit.script(layer), names) == parameter_groups(layer, names)


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.BatchNorm1d(5), nn.BatchNorm1d(5, track_running_stats=False).eval()]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_layers_are_looked_at_as_others_are(layer: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"'1'.*(call model.eval\(\)|track_running_stats)"):
        values(nn.Sequential(network(), torch.jit.script(layer.double())))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frozen_script_has_no_parameters_to_measure() -> None:
    with pytest.raises(ModelError, match="nothing to measure"):
        ish.oracle(torch.jit.freeze(torch.jit.script(network().eval())), (inputs(), targets()), "mse")


def pruned(model: nn.Sequential) -> nn.Sequential:
    prune.random_unstructured(model[0], "weight", amount=0.4)
    return model


def with_spectral_norm(model: nn.Sequential) -> nn.Sequential:
    nn.utils.spectral_norm(model[0])
    model.eval()(inputs().float())
    return model


def with_memory(model: nn.Sequential) -> nn.Sequential:
    model.register_forward_hook(lambda module, _, outputs: setattr(module, "last", outputs.sum()))
    model(inputs().float())
    return model


@pytest.mark.parametrize("change", [pruned, with_spectral_norm, with_memory])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_copies_in_another_precision_of_modules_that_keep_what_they_computed(change: Any) -> None:
    model = change(network().float())
    other = change(network().float())
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.double()(inputs())
    assert values(model, dtype="float64") == pytest.approx(values(other), rel=1e-12)


def test_module_that_cannot_be_copied_says_what_to_do_instead_of_a_precision() -> None:
    model = network()
    model.generator = (number for number in range(3))
    with pytest.raises(ModelError, match=r"cannot be copied.*generator.*model.to\(torch.float64\)"):
        ish.oracle(model, (inputs(), targets()), "mse", dtype="float64")


@pytest.mark.parametrize("widths", [(5, 0, 5), (5, 0, 0, 5), (5, 4, 5)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_parameters_without_entries_are_left_out(widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(a, b).double() for a, b in pairwise(widths)))
    model.register_parameter("empty", nn.Parameter(torch.zeros(0, 3, dtype=torch.float64)))
    oracle = ish.oracle(model, (inputs(), targets()), "mse")
    assert all(group.size for group in oracle.groups)
    if 0 in widths:
        with pytest.raises(ModelError, match="none of the parameters has the role of one"):
            ish.normalized_sharpness(oracle)
    report = ish.measure(oracle, [name for name in METRICS if name != "normalized_sharpness" or 0 not in widths])
    assert report["hessian_trace"].value >= 2.0 - 1e-9, (
        "the last bias alone has a curvature of 2/5 for each of 5 outputs"
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", ["function", "module", "loss"])
def test_compiled_parts_run_uncompiled_and_are_compiled_afterwards(part: str) -> None:
    calls = []

    def backend(graph: Any, _: Any) -> Any:
        calls.append(1)
        return graph.forward

    def square(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (z - y).square().sum(dim=1)

    compiled = torch.compile({"function": gated, "module": network(), "loss": square}[part], backend=backend)
    plain: Any = {"function": gated, "module": network(), "loss": square}[part]

    def measured(given: Any) -> dict[str, float]:
        if part == "loss":
            return values(network(), given)
        function = (lambda body, x: given(body(x))) if part == "function" else (lambda body, x: body(x))
        return values(Around(function, network() if part == "function" else given), square)

    assert measured(compiled) == pytest.approx(measured(plain), rel=1e-12)
    assert not calls, "something was compiled"
    compiled(inputs(), *([targets()] if part == "loss" else []))
    assert calls, "nothing is compiled any more"
