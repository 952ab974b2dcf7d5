"""What each metric does when a network is changed in a way that its function, or its accuracy, does not see.

    python docs/experiments/invariances.py              # the table in docs/invariances.md
    python docs/experiments/invariances.py --short      # the table in README.md
    python docs/experiments/invariances.py stable_rank  # the row of one metric

Every cell is measured: the metric before and after, with the same seed, on the networks of ``symmetric_networks.py``. ``=`` stands for a relative
change below 1e-7, in bold where the metric declares it; ``≈`` for one within four standard errors, where the metric declares no more; and all
other cells have the factor by which the metric moved.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from math import hypot

from symmetric_networks import STAYS, estimates

import invariant_sharpness as ish
from invariant_sharpness.symmetries import SYMMETRIES, NamedSymmetry

SHORT = ("layers", "rows_and_columns", "permutation", "unit_split", "general_linear", "output_scale")


def cell(metric: ish.Metric, symmetry: NamedSymmetry) -> str:
    """What the change does to the value."""
    before, after = estimates(metric.name, symmetry.name)
    change = abs(after.value - before.value)
    rounding = STAYS * max(abs(before.value), abs(after.value))
    error = 4 * hypot(before.standard_error or 0, after.standard_error or 0)
    if symmetry in metric.unchanged_up_to_error and change <= max(error, rounding):
        return "≈"
    if change <= rounding:
        return "**=**" if symmetry in metric.unchanged_by else "="
    factor = after.value / before.value
    return f"1{factor - 1:+.0e}" if abs(factor - 1) < 0.005 else f"{factor:#.3g}".rstrip(".")


def print_row(cells: Iterable[str]) -> None:
    print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="some of the columns")
    parser.add_argument("metrics", nargs="*", default=list(ish.METRICS), help="metrics; by default all")
    chosen = parser.parse_args()
    columns = [s for s in SYMMETRIES if s.name in SHORT] if chosen.short else SYMMETRIES
    print_row(["metric", *(symmetry.heading for symmetry in columns)])
    print_row(["---"] * (len(columns) + 1))
    for name in chosen.metrics:
        print_row([f"`{name}`", *(cell(ish.METRICS[name], symmetry) for symmetry in columns)])


if __name__ == "__main__":
    main()
