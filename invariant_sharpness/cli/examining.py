"""The command ``doctor``: the checks of an oracle in the words of somebody who measures a model."""

from __future__ import annotations

from math import isnan
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from invariant_sharpness.cli.options import AsJson, Seed
from invariant_sharpness.cli.terminal import FAILED, console, explained, working
from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.evaluation.targets import load_oracle
from invariant_sharpness.protocol import CurvatureOracle, GaussNewtonDiagonalOracle, capability
from invariant_sharpness.results.export import strict_json
from invariant_sharpness.testing import CheckResult, check_oracle
from invariant_sharpness.testing.results import figures_in_words

OVERVIEW = {
    "check_groups": "Names, shapes, axes and owners of the parameter groups.",
    "check_vectors": "Gradients and products against the shapes and dtypes of the parameters.",
    "check_round_trip": "Vectors to the host and back.",
    "check_finite": "Loss and gradient where the model is now.",
    "check_purity": "Arguments and model before and after each call.",
    "check_determinism": "The same call twice, bit by bit.",
    "check_gradient": "The gradient against differences of the loss.",
    "check_linearity": "H(2u - 3v) against 2Hu - 3Hv.",
    "check_symmetry": "u.Hv against v.Hu.",
    "check_second_derivative": "The Hessian-vector product against differences of the gradient.",
    "check_block_products": "Products with many vectors against products one by one.",
    "check_gauss_newton_diagonal": "The exact diagonal against columns of the Hessian.",
    "check_gauss_newton_product": "The Gauss-Newton product against its transpose and the exact diagonal.",
    "check_residual_diagonal": "What draws at layers add to the Gauss-Newton diagonal, against columns of both matrices.",
    "check_node_curvature": "What draws at the operations above layers add to the Gauss-Newton diagonal, against columns of both matrices.",
    "check_jacobian": "Derivatives of the outputs against differences, and against their transpose.",
    "check_sampled_outputs": "The diagonal from sampled outputs against that of the Gauss-Newton product.",
    "check_second_moments": "Second moments of the examples' gradients, computed in two ways.",
}
"""What each check compares."""

MEANINGS = {
    "check_groups": "metrics would take the wrong rows and columns; matrix- and row/column-normalized values are wrong.",
    "check_vectors": "metrics would multiply arrays that do not belong together, or lose digits.",
    "check_round_trip": "values change on their way between device and host; every metric is affected.",
    "check_finite": "there is no curvature here. Look for an overflow, a logarithm of zero, or a diverged training.",
    "check_purity": "measuring changes your model, and each value depends on what was measured before it.",
    "check_determinism": "values change from run to run, and differences between two models may be chance. Call model.eval(), "
    "and give data that do not change from pass to pass.",
    "check_gradient": "the loss depends on the parameters in a way that differentiation does not see. The curvature is that "
    "of another function, and no value can be trusted. A part that is meant to be frozen has to be excluded from the parameters.",
    "check_linearity": "there is no matrix behind the products; trace, eigenvalues and probes mean nothing.",
    "check_symmetry": "the second derivative of some operation is wrong in the framework. All values that use the Hessian are wrong.",
    "check_second_derivative": "the second derivative of some operation is wrong or missing in the framework, although it may be "
    "symmetric. All values that use the Hessian are wrong.",
    "check_block_products": "everything that is sampled is wrong: traces, norms and diagonals by probes.",
    "check_gauss_newton_diagonal": "values that report the method 'exact' are not: the trace and all normalized measures.",
    "check_gauss_newton_product": "measures that use the Gauss-Newton or Fisher matrix are wrong.",
    "check_residual_diagonal": "values that report 'draws at layers' or 'exact (units)' are wrong.",
    "check_node_curvature": "values that report 'curvature propagation' are wrong.",
    "check_jacobian": "what looks at the function instead of the loss is wrong.",
    "check_sampled_outputs": "values that report 'samples of the outputs' are wrong.",
    "check_second_moments": "fisher_rao_norm is wrong.",
}
"""What the failure of each check means for the numbers."""


def doctor(
    target: Annotated[
        str,
        typer.Argument(
            help="file.py:name or package.module:name, as for measure. It is IMPORTED AND RUN with your rights.",
            metavar="TARGET",
            show_default=False,
        ),
    ],
    *,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Check that the derivatives of a model can be trusted.

    Compares gradient and Hessian with differences, tests symmetry and determinism, and says for each parameter group
    whether the diagonal of its Hessian is exact. The exit code is 1 if a check failed.
    """
    with explained(), working():
        oracle = load_oracle(target)
        results = check_oracle(oracle, seed=seed, on_fail="return")
        groups = _described_groups(oracle, seed)
    failed = any(result.status == "failed" for result in results)
    if as_json:
        checks = [result.to_dict() for result in results]
        typer.echo(
            strict_json(
                {"target": target, "oracle": type(oracle).__name__, "seed": seed, "checks": checks, "groups": groups}
            )
        )
    else:
        _print(results, groups)
    raise typer.Exit(FAILED if failed else 0)


def _described_groups(oracle: CurvatureOracle, seed: int) -> list[dict[str, Any]]:
    curvatures, exact = _affine_test(oracle, seed)
    return [
        {
            "name": group.name,
            "role": group.role,
            "shape": list(group.shape),
            "output_axes": list(group.output_axes),
            "input_axes": list(group.input_axes),
            "kernel_axes": list(group.kernel_axes) if group.is_weight else [],
            "exact": group.name in exact if group.name in curvatures else None,
            "relative_curvature": curvatures.get(group.name),
            "defect": curvatures.get(group.name),  # its name in version 0.1, for scripts that read it
        }
        for group in oracle.groups
    ]


def _affine_test(oracle: CurvatureOracle, seed: int) -> tuple[dict[str, float], frozenset[str]]:
    """Return relative curvatures and exact groups; nothing if the oracle cannot be asked, or is too broken to answer."""
    able = capability(oracle, GaussNewtonDiagonalOracle)
    if able is None:
        return {}, frozenset()
    try:
        curvatures = curvature_defects(able, seed)
    except InvariantSharpnessError:
        return {}, frozenset()
    return curvatures, exact_groups(able, curvatures)


def _print(results: list[CheckResult], groups: list[dict[str, Any]]) -> None:
    out = console()
    out.print(_check_table(results))
    for result in results:
        if result.status == "failed":
            out.print(f"\n[bold red]{result.check}[/]: {escape(result.message)}")
            out.print(f"What this means: {MEANINGS[result.check]}")
    out.print()
    out.print(_group_table(groups))
    out.print(f"\n{_verdict(results)}")


def _check_table(results: list[CheckResult]) -> Table:
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("what was compared")
    colors = {"passed": "green", "failed": "bold red", "skipped": "yellow"}
    for result in results:
        words = f"{OVERVIEW[result.check]} {_detail(result)}".strip()
        table.add_row(result.check, f"[{colors[result.status]}]{result.status}[/]", escape(words))
    return table


def _detail(result: CheckResult) -> str:
    if result.status == "skipped":
        return f"Skipped: {result.message}."
    return f"({figures_in_words(result.figures)})" if result.figures else ""


def _group_table(groups: list[dict[str, Any]]) -> Table:
    table = Table()
    for heading in ("parameter group", "shape", "role", "output / input / kernel axes", "diagonal of its Hessian"):
        table.add_column(heading)
    for group in groups:
        shape = " x ".join(map(str, group["shape"])) or "number"
        axes = " / ".join(",".join(map(str, group[f"{kind}_axes"])) or "-" for kind in ("output", "input", "kernel"))
        table.add_row(escape(group["name"]), shape, group["role"], axes, _diagonal(group))
    return table


def _diagonal(group: dict[str, Any]) -> str:
    if group["exact"] is None:
        return "sampled: the oracle has no affine test"
    if group["exact"]:
        return "exact"
    if isnan(group["relative_curvature"]):
        return "looked at when it is measured: none of the tested examples reaches it"
    return f"sampled: outputs not affine in it, relative curvature {group['relative_curvature']:.2g}"


def _verdict(results: list[CheckResult]) -> str:
    failed = [result.check for result in results if result.status == "failed"]
    if failed:
        return f"[bold red]{len(failed)} of {len(results)} checks failed[/]: do not trust the numbers of measure before this is repaired."
    skipped = sum(result.status == "skipped" for result in results)
    return f"No check failed: {len(results) - skipped} passed, {skipped} skipped."
