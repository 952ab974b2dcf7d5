"""The command ``doctor``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from invariant_sharpness.cli.failures import FAILED, explained
from invariant_sharpness.cli.findings import MEANINGS, OVERVIEW
from invariant_sharpness.cli.options import AsJson, Seed
from invariant_sharpness.cli.output import console, working
from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.evaluation.targets import load_oracle
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    require,
    supports,
)
from invariant_sharpness.results.export import strict_json
from invariant_sharpness.testing import CheckResult, check_oracle
from invariant_sharpness.testing.results import figures_in_words


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
        typer.echo(strict_json({"oracle": type(oracle).__name__, "seed": seed, "checks": checks, "groups": groups}))
    else:
        _print(results, groups)
    raise typer.Exit(FAILED if failed else 0)


def _described_groups(oracle: CurvatureOracle, seed: int) -> list[dict[str, Any]]:
    defects, exact = _certificate(oracle, seed)
    return [
        {
            "name": group.name,
            "role": group.role,
            "shape": list(group.shape),
            "output_axes": list(group.output_axes),
            "input_axes": list(group.input_axes),
            "kernel_axes": list(group.kernel_axes) if group.is_weight else [],
            "exact": group.name in exact if group.name in defects else None,
            "defect": defects.get(group.name),
        }
        for group in oracle.groups
    ]


def _certificate(oracle: CurvatureOracle, seed: int) -> tuple[dict[str, float], frozenset[str]]:
    """Defects and exact groups; nothing if the oracle cannot be asked, or is too broken to answer."""
    if not supports(oracle, GaussNewtonDiagonalOracle):
        return {}, frozenset()
    able = require(oracle, GaussNewtonDiagonalOracle, metric="doctor")
    try:
        defects = curvature_defects(able, seed)
    except InvariantSharpnessError:
        return {}, frozenset()
    return defects, exact_groups(able, defects)


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
        return "sampled: the oracle has no certificate"
    if group["exact"]:
        return "exact"
    return f"sampled: outputs not affine in it, defect {group['defect']:.2g}"


def _verdict(results: list[CheckResult]) -> str:
    failed = [result.check for result in results if result.status == "failed"]
    if failed:
        return f"[bold red]{len(failed)} of {len(results)} checks failed[/]: do not trust the numbers of measure before this is repaired."
    skipped = sum(result.status == "skipped" for result in results)
    return f"No check failed: {len(results) - skipped} passed, {skipped} skipped."
