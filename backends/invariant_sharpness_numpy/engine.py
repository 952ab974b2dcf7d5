r"""The NumPy engine: a ReLU network with a loss, differentiated in closed form; every sum is a formula."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from invariant_sharpness.adapters.data import Batch
from invariant_sharpness.adapters.engine import Arrays, Cotangents, CotangentsOf, Sums
from invariant_sharpness.adapters.host_engine import HostEngine
from invariant_sharpness.adapters.layers import LayerMoments, Perturbations
from invariant_sharpness.adapters.outputs import CotangentRows
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.losses import ConvexLoss, OutputLoss, convex, described
from invariant_sharpness.prng import Draws, output_signs
from invariant_sharpness.protocol import EVERY_CAPABILITY, NodeCurvatureOracle, ResidualDiagonalOracle
from invariant_sharpness_numpy.derivatives import ForwardPass, backward, finite_forward, gradient, squared_gradients
from invariant_sharpness_numpy.layers import Array, Layer, from_arrays, layer_groups, to_arrays
from invariant_sharpness_numpy.network import ReluNetwork
from invariant_sharpness_numpy.tangents import forward_tangents, second_derivative


class NumpyPoint:
    """A network with its loss at one parameter point; every method is a sum over the examples of a batch.

    Parameters
    ----------
    layers
        The network.
    loss
        The loss of outputs and targets.
    names
        The parameters that are measured; biases that the network has not are zero, and left out.
    """

    def __init__(self, layers: Sequence[Layer], loss: OutputLoss, names: frozenset[str]) -> None:
        self._layers = layers
        self._loss = loss
        self._names = names

    def evaluate(self, batch: Batch, /) -> tuple[Array, Array]:
        return finite_forward(self._layers, batch.inputs).outputs, batch.targets

    def losses(self, batch: Batch, /) -> Sums:
        r""":math:`\sum_n w_n \ell_n`."""
        z, w = self._outputs_and_weights(batch)
        return Sums(np.sum(w), len(z), value=np.sum(w * self._loss.values(xp, z, batch.targets)))

    def row_losses(self, batch: Batch, /) -> Array:
        z, _ = self._outputs_and_weights(batch)
        return self._loss.values(xp, z, batch.targets)

    def gradient(self, batch: Batch, /) -> Sums:
        r""":math:`\sum_n w_n J_n^T \nabla_z \ell_n`."""
        passed, w = self._passed_and_weights(batch)
        return self._sums(w, self._pulled_back(passed, self._cotangents(passed, w, batch)))

    def hessian_products(self, vectors: Sequence[Arrays], batch: Batch, /) -> Sums:
        r""":math:`\nabla^2 \big(\sum_n w_n \ell_n\big)\, v`, where the cotangents move by :math:`w_n \Lambda_n J_n v`."""
        passed, w = self._passed_and_weights(batch)
        cotangents = self._cotangents(passed, w, batch)

        def moving(tangents: Array) -> Array:
            return self._curved(passed, w, batch, tangents)

        return self._sums(
            w, *(second_derivative(self._layers, self._along(v), passed, cotangents, moving) for v in vectors)
        )

    def gauss_newton_product(self, vector: Arrays, batch: Batch, /) -> Sums:
        r""":math:`\sum_n w_n J_n^T \Lambda_n J_n v`."""
        passed, w = self._passed_and_weights(batch)
        _, Jv = forward_tangents(self._layers, self._along(vector), passed)
        return self._sums(w, self._pulled_back(passed, self._curved(passed, w, batch, Jv)))

    def squares(self, names: frozenset[str], cotangents: Cotangents, batch: Batch, /) -> Sums:
        passed, w = self._passed_and_weights(batch)
        signs, vectors = self._factors(cotangents, passed.outputs, batch.targets)
        return _named(self._sums(w, squared_gradients(self._layers, passed, w[:, None] * signs, vectors)), names)

    def layer_moments(self, batch: Batch, /) -> LayerMoments:
        r"""Squares of :math:`z_l`, and of :math:`\delta_l` made of :math:`c_n = w_n \nabla_z \ell_n`, summed over the examples."""
        passed, w = self._passed_and_weights(batch)
        deltas = backward(self._layers, passed.slopes, self._cotangents(passed, w, batch))
        outputs = [a @ W.T + b for a, (W, b) in zip(passed.activations, self._layers, strict=True)]
        moments = [np.sum(np.square([z, d]), axis=1) for z, d in zip(outputs, deltas, strict=True)]
        squares = self._arrays(Layer(moment, moment) for moment in moments)
        return LayerMoments(squares, {name: moment.shape[1] for name, moment in squares.items()})

    def residual_squares(self, perturbations: Perturbations, batch: Batch, /) -> Sums:
        r"""Zeros: with fixed cotangents, :math:`\delta_l` moves with :math:`z_l` through the slopes of the layers above alone, and those of ReLU do not move: :math:`K_n = 0`."""
        return self._zeros(perturbations.units.keys(), batch)

    def node_counts(self, _batch: Batch, /) -> Mapping[str, int]:
        """Zeros: ReLU is linear on either side of its kink."""
        return dict.fromkeys(self._arrays(self._layers), 0)

    def node_squares(self, names: frozenset[str], _draws: Draws, batch: Batch, /) -> Sums:
        return self._zeros(names, batch)

    def _zeros(self, names: Collection[str], batch: Batch) -> Sums:
        _, w = self._passed_and_weights(batch)
        return _named(self._sums(w, [Layer(np.zeros_like(W), np.zeros_like(b)) for W, b in self._layers]), names)

    def slopes(self, vector: Arrays, batch: Batch, /) -> Sums:
        r""":math:`\sum_n w_n (u \cdot \nabla \ell_n)^2`, with :math:`u \cdot \nabla \ell_n = \nabla_z \ell_n \cdot J_n u`."""
        passed, w = self._passed_and_weights(batch)
        _, Ju = forward_tangents(self._layers, self._along(vector), passed)
        slopes = np.sum(self._loss.gradient(xp, passed.outputs, batch.targets) * Ju, axis=1)
        return Sums(np.sum(w), len(w), value=np.sum(w * slopes**2))

    def pushforward(self, vector: Arrays, batch: Batch, /) -> Array:
        passed = finite_forward(self._layers, batch.inputs)
        return forward_tangents(self._layers, self._along(vector), passed)[1]

    def pullback(self, cotangents: CotangentRows, batch: Batch, /) -> Arrays:
        passed = finite_forward(self._layers, batch.inputs)
        return self._arrays(self._pulled_back(passed, cotangents.next_like(passed.outputs.shape)))

    def output_curvature(self, direction: Arrays, cotangents: CotangentsOf, batch: Batch, /) -> tuple[Arrays, Arrays]:
        passed = finite_forward(self._layers, batch.inputs)
        c = cotangents(passed.outputs.shape)
        second = {}
        for name, along in direction.items():
            # One group moves and its own block is read. As phi is linear in z, its cotangents do not move.
            product = second_derivative(self._layers, self._along({name: along}), passed, c, np.zeros_like)
            second[name] = to_arrays(product)[name]
        return self._arrays(self._pulled_back(passed, c)), second

    def _factors(self, cotangents: Cotangents, z: Array, y: Array) -> tuple[Array, Array]:
        """The signs s of shape (n, R) and vectors v of shape (n, K, R) whose squares are summed, without the weights."""
        if cotangents.kind == "curvature":
            return self._loss.hessian_factors(xp, z, y)
        if cotangents.kind == "gradient":
            vectors = self._loss.gradient(xp, z, y)[:, :, None]
        else:
            vectors = np.stack(self._sampled(cotangents, z, y), axis=2)
        return np.ones((len(z), vectors.shape[2])), vectors

    def _sampled(self, cotangents: Cotangents, z: Array, y: Array) -> list[Array]:
        r""":math:`R_n \varepsilon_n` for every draw of signs, with :math:`\Lambda_n = R_n R_n^T`."""
        numbers, seed, start = cotangents.sampled()
        signs = (output_signs(seed, number, start, *z.shape) for number in numbers)
        return [convex(self._loss).hessian_root_product(xp, z, y, drawn) for drawn in signs]

    def _outputs_and_weights(self, batch: Batch) -> tuple[Array, Array]:
        passed, w = self._passed_and_weights(batch)
        return passed.outputs, w

    def _passed_and_weights(self, batch: Batch) -> tuple[ForwardPass, Array]:
        passed = finite_forward(self._layers, batch.inputs)
        return passed, self._loss.weights(xp, passed.outputs, batch.targets)

    def _cotangents(self, passed: ForwardPass, w: Array, batch: Batch) -> Array:
        r""":math:`w_n \nabla_z \ell_n`."""
        cotangents: Array = w[:, None] * self._loss.gradient(xp, passed.outputs, batch.targets)
        return cotangents

    def _curved(self, passed: ForwardPass, w: Array, batch: Batch, tangents: Array) -> Array:
        r""":math:`w_n \Lambda_n u_n`, which is how the cotangents move with the outputs."""
        hessians = w[:, None, None] * self._loss.hessian(xp, passed.outputs, batch.targets)
        return (hessians @ tangents[:, :, None])[:, :, 0]

    def _pulled_back(self, passed: ForwardPass, cotangents: Array) -> list[Layer]:
        return gradient(passed.activations, backward(self._layers, passed.slopes, cotangents))

    def _along(self, vector: Arrays) -> list[Layer]:
        """The direction in every layer; zero in the groups that it leaves out."""
        zeros = to_arrays(Layer(np.zeros_like(W), np.zeros_like(b)) for W, b in self._layers)
        return from_arrays({**zeros, **vector}, len(self._layers))

    def _sums(self, weights: Array, *sums: list[Layer]) -> Sums:
        return Sums(np.sum(weights), len(weights), tuple(map(self._arrays, sums)))

    def _arrays(self, layers: Iterable[Layer]) -> Arrays:
        return {name: array for name, array in to_arrays(layers).items() if name in self._names}


def _named(sums: Sums, names: Collection[str]) -> Sums:
    """The sums of these groups alone."""
    return sums._replace(arrays=tuple({k: a for k, a in one.items() if k in names} for one in sums.arrays))


class NumpyEngine(HostEngine):
    """A ReLU network and a loss.

    Parameters
    ----------
    network
        Where the parameters are now.
    loss
        The loss of outputs and targets, with closed-form derivatives.
    """

    name = "NumPy"
    offers = EVERY_CAPABILITY | {NodeCurvatureOracle, ResidualDiagonalOracle}

    def __init__(self, network: ReluNetwork, loss: OutputLoss) -> None:
        super().__init__(layer_groups(network.layers, biases=network.biases is not None))
        self._network = network
        self._loss = loss
        self.loss_description = described(loss)

    @property
    def samples_outputs(self) -> bool:
        return isinstance(self._loss, ConvexLoss)

    def parameters(self) -> Arrays:
        return self.from_numpy(to_arrays(self._network.layers))

    def check_loss(self, outputs: Array, targets: Array, /) -> None:
        self._loss.check(xp, outputs, targets)
        self._loss.weights(xp, outputs, targets)

    def random_state(self, seed: int, source: Any, /) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def at(self, parameters: Arrays, /) -> Generator[NumpyPoint]:
        names = frozenset(group.name for group in self.groups)
        yield NumpyPoint(from_arrays(parameters, len(self._network.weights)), self._loss, names)

    def infinite_derivative(self, name: str, /) -> NonFiniteError:
        return NonFiniteError(
            f"a derivative in {name} is NaN or infinite, although all outputs are finite at this point"
        )
