"""Old paths of modules, which can be imported for one release with a warning; they go in 0.3."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = "invariant_sharpness"

NEW_BY_OLD = {
    "agreement": "results.agreement",
    "candidates": "evaluation.door",
    "certificate": "evaluation.certificate results.records",
    "certifying": "evaluation.certifying",
    "checkpoints": "runtime.checkpoints",
    "checkpoints.folder": "runtime.folder",
    "checkpoints.identity": "runtime.identity",
    "comparison": "results.ratios",
    "coordinates.blocks": "parameters.matrices",
    "coordinates.families": "parameters.matrices",
    "coordinates.head_solver": "solvers.heads",
    "coordinates.heads": "parameters.heads",
    "coordinates.rows_first": "parameters.matrices",
    "coordinates.solver": "solvers.rows_columns",
    "data": "adapters.data.batches adapters.data.checks adapters.data.datasets adapters.data.examples adapters.data.subsets",
    "data.batches": "adapters.data.batches",
    "data.datasets": "adapters.data.datasets",
    "data.examples": "adapters.data.examples",
    "data.failures": "adapters.data.checks",
    "data.inputs": "adapters.data.checks",
    "data.outputs": "adapters.data.checks",
    "data.subsets": "adapters.data.subsets",
    "data.sums": "adapters.data.checks",
    "data.trees": "adapters.data.examples",
    "data_frames": "results.export",
    "descriptions": "parameters.groups",
    "estimate": "results.estimate",
    "estimators.curvature_blocks": "estimators.diagonal_blocks",
    "estimators.curvature_blocks.blocks": "estimators.diagonal_blocks",
    "estimators.diagonals": "estimators.diagonal_results estimators.hessian_diagonals",
    "estimators.diagonals.cross_fitting": "estimators.diagonal_results",
    "estimators.diagonals.diagonal": "estimators.hessian_diagonals",
    "estimators.diagonals.exactness": "estimators.affine_test",
    "estimators.diagonals.group_diagonals": "estimators.diagonal_results",
    "estimators.diagonals.leave_one_out_diagonal": "estimators.leave_one_out_diagonal",
    "estimators.diagonals.probed_diagonal": "estimators.probed_diagonal",
    "estimators.diagonals.sampled_outputs": "estimators.sampled_diagonal",
    "estimators.lipschitz.diagonal_change": "estimators.lipschitz",
    "estimators.lipschitz.neighbourhood": "estimators.lipschitz",
    "estimators.lipschitz.operator_change": "estimators.lipschitz",
    "estimators.perturbations.largest_rise": "estimators.conditional_gradient",
    "estimators.perturbations.mean_rise": "estimators.perturbations",
    "estimators.perturbations.random_subspace": "estimators.random_subspace",
    "estimators.posteriors": "estimators.posterior_fit estimators.perturbed_losses",
    "estimators.posteriors.fitted_scales": "estimators.posterior_fit",
    "estimators.posteriors.layer_scales": "estimators.posterior_fit",
    "estimators.posteriors.perturbed_losses": "estimators.perturbed_losses",
    "estimators.posteriors.zero_one_loss": "estimators.perturbed_losses",
    "estimators.spectra": "estimators.lanczos estimators.densities",
    "estimators.spectra.extreme_eigenpairs": "estimators.lanczos",
    "estimators.spectra.lanczos": "estimators.lanczos",
    "estimators.spectra.lanczos_quadrature": "estimators.lanczos_quadrature",
    "estimators.spectra.spectrum": "estimators.densities",
    "estimators.subspaces": "estimators.bases estimators.sketches estimators.compressed_matrices estimators.krylov",
    "estimators.subspaces.basis": "estimators.bases",
    "estimators.subspaces.compressions": "estimators.compressed_matrices",
    "estimators.subspaces.inverse_products": "estimators.inverse_products",
    "estimators.subspaces.krylov": "estimators.krylov",
    "estimators.traces": "estimators.hutchinson estimators.leave_one_out_trace",
    "estimators.traces.hutchinson": "estimators.hutchinson",
    "estimators.traces.leave_one_out_trace": "estimators.leave_one_out_trace",
    "estimators.traces.squared_norm": "estimators.squared_norms",
    "estimators.traces.target_error": "estimators.target_error",
    "measuring": "evaluation.measuring",
    "memory": "runtime.memory",
    "metrics.largest_rise": "metrics.worst_case",
    "metrics.mean_rise": "metrics.average_case",
    "metrics.minibatch": "metrics.regrets metrics.contrastive",
    "metrics.pacgen_psi": "metrics.pacgen_bound",
    "metrics.spectrum": "metrics.eigenvalues",
    "model_metrics": "adapters.model_metrics",
    "precision": "protocol.requirements",
    "probes": "prng",
    "progress": "runtime.progress",
    "registry": "adapters.registry",
    "report": "evaluation.report",
    "rows": "adapters.outputs",
    "strict_json": "results.export",
    "symmetries.collection": "symmetries.generators",
    "symmetries.rescaling": "symmetries.generators",
    "symmetries.sides": "symmetries.scaling_variables",
    "targets": "evaluation.targets",
    "vector": "parameters.vector",
}
"""Where the names of an old module are now, within the package; with spaces between several places."""

_FOLDERS = frozenset(old.rpartition(".")[0] for old in NEW_BY_OLD) - {""}
"""What has old modules in it: a folder of them, or a file of today that was one."""


class OldPaths(MetaPathFinder, Loader):
    """Finds modules at their old paths, and makes them of the names that are elsewhere now."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module by its old path."""
        package, _, old = fullname.partition(".")
        if package != _PACKAGE or old not in NEW_BY_OLD:
            return None
        return ModuleSpec(fullname, self, is_package=old in _FOLDERS)

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and look names up where they are now."""
        old = module.__name__.partition(".")[2]
        places = [f"{_PACKAGE}.{place}" for place in NEW_BY_OLD[old].split()]
        warnings.warn(
            f"{module.__name__} is now {' and '.join(places)}; the old path goes in 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        homes = [import_module(place) for place in places]

        def lookup(name: str) -> Any:
            for home in homes:
                if hasattr(home, name):
                    return getattr(home, name)
            msg = f"{module.__name__} has no {name!r}, nor has {' or '.join(places)}"
            raise AttributeError(msg)

        vars(module).update(__getattr__=lookup)


def accept_old_paths() -> None:
    """Let modules be imported from their old paths, those too that are in a file of today as in a folder."""
    sys.meta_path.append(OldPaths())
    for folder in _FOLDERS:
        found = sys.modules.get(f"{_PACKAGE}.{folder}")
        if found is not None and not hasattr(found, "__path__"):
            found.__path__ = []
