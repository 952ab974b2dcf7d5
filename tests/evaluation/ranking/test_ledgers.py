"""A ledger may come in many forms; what is wrong with one is an error that names it, or a note that says what follows."""

from __future__ import annotations

import gzip
import json
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError, DataError
from zoo.ledgers import NAMES, random_ledger


def ranked(ledger: Any, measures: Any = ("mu",), **options: Any) -> ish.Ranking:
    return ish.rank(ledger, measures, **({"hyperparameters": NAMES, "resamples": 5} | options))


def forms(folder: Path) -> dict[str, Any]:
    rows = random_ledger(0)
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_csv(folder / "a.csv.gz", index=False)
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "a.json").write_text(json.dumps(rows))
    with gzip.open(folder / "b.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    files = {name: folder / name for name in ("a.csv", "a.csv.gz", "a.jsonl", "a.json", "b.jsonl.gz")}
    arrays = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    return {
        "frame": frame,
        "columns": arrays,
        "shuffled": frame.sample(frac=1, random_state=1),
        **files,
        "text": str(files["a.csv"]),
    }


def test_every_form_of_a_ledger_gives_the_same_numbers(tmp_path: Path) -> None:
    expected = ranked(random_ledger(0)).to_json()
    for name, form in forms(tmp_path).items():
        assert ranked(form).to_json() == expected, name


def test_all_columns_of_numbers_are_measures_by_default() -> None:
    rows = [row | {"name": "net", "trace": 1.0 * row["lr"]} for row in random_ledger(0)]
    assert list(ranked(rows, None)) == ["mu", "trace"]


def changed(**columns: Any) -> list[dict[str, Any]]:
    return [row | columns for row in random_ledger(0)]


@pytest.mark.parametrize(
    ("ledger", "options", "message"),
    [
        (random_ledger(0), {"gap": "gpa"}, r"no column 'gpa' in the ledger \(did you mean 'gap'\?\)"),
        (random_ledger(0), {"repeats": "run"}, "no column 'run'.*pass repeats=None"),
        (random_ledger(0), {"measures": ["mv"]}, "no column 'mv' in the ledger; the columns are lr"),
        (changed(gap="large"), {}, r"row 0: the gap \(gap\) is 'large', but it has to be a finite number"),
        (changed(gap=nan), {}, r"row 0: the gap \(gap\) is nan"),
        (changed(gap=None), {}, r"row 0: the gap \(gap\) is None"),
        (changed(mu="sharp"), {}, "the measure mu has 'sharp' in it"),
        (random_ledger(0) * 2, {}, r"rows \d+ and \d+ have the same configuration and the same repeat, as do 36 pairs"),
        (changed(lr=1, width=1, depth=1), {}, "has 1 configuration of lr, width, depth"),
        ([], {}, "no column 'gap'"),
        ({"gap": [1, 2], "mu": [1]}, {}, "differ in length: {'gap': 2, 'mu': 1}"),
        (3, {}, "the ledger is a int, but it has to be a data frame"),
        ("no_such.csv", {}, "no_such.csv cannot be read as a ledger: .*No such file"),
        ("ledger.xlsx", {}, "ledger.xlsx has the ending .xlsx"),
        (random_ledger(0), {"hyperparameters": "lr"}, r"hyperparameters='lr', but it has to be a list"),
    ],
)
def test_a_bad_ledger_is_named(ledger: Any, options: dict[str, Any], message: str) -> None:
    measures = options.pop("measures", ["mu"])
    with pytest.raises(DataError, match=message):
        ranked(ledger, measures, **options)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.jsonl").write_text('{"gap": 1}\n{"gap": ')
    (tmp_path / "torn.csv").write_text("gap,mu\n1,2\n3\n")
    for name, message in (("torn.jsonl", "cannot be read as a ledger"), ("torn.csv", "line 3 has fewer entries")):
        with pytest.raises(DataError, match=message):
            ranked(tmp_path / name)


@pytest.mark.parametrize("option", [{"resamples": 0}, {"test_examples": 0}, {"smallest_environment": 0.0}])
def test_a_number_without_a_meaning_is_refused(option: dict[str, float]) -> None:
    (name,) = option
    with pytest.raises(ArgumentError, match=f"{name}=0"):
        ranked(random_ledger(0), **option)


def test_a_ledger_without_measures_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no measure to rank: the columns are lr"):
        ranked([{name: row[name] for name in (*NAMES, "seed", "gap")} for row in random_ledger(0)], None)


@pytest.mark.parametrize(
    ("ledger", "note"),
    [
        (changed(mu=1.0), "mu has one value in all networks"),
        (random_ledger(0, repeats=1), "one network for each configuration"),
        (random_ledger(0)[:-3], "11 of 12 configurations of the grid are there"),
        (random_ledger(0), "no environment has 12 effective pairs"),
        (
            [row | {"gap": 10 * row["gap"]} for row in random_ledger(0)],
            "gaps beyond 1 are no differences of error rates",
        ),
        (changed(depth=1, seed=None), None),
    ],
)
def test_what_is_unusual_is_said(ledger: Any, note: str | None) -> None:
    if note is None:
        with pytest.raises(DataError, match="the same configuration and the same repeat"):
            ranked(ledger)
        return
    assert any(note in words for words in ranked(ledger).notes), ranked(ledger).notes


def test_networks_without_a_finite_measure_are_counted() -> None:
    rows = random_ledger(0)
    rows[3]["mu"], rows[7]["mu"], rows[9]["mu"] = nan, inf, None
    ranking = ranked(rows)
    without = [row for number, row in enumerate(rows) if number not in (3, 7, 9)]
    assert ranking["mu"]["kendall"].value == ranked(without)["mu"]["kendall"].value
    assert "mu: 3 of 36 networks have no finite value" in " ".join(ranking.notes)


def test_a_measure_without_values_has_no_statistics() -> None:
    ranking = ranked(changed(mu=nan))
    assert all(isnan(found.value) for found in ranking["mu"].values())
    assert "0 finite values have no order" in " ".join(ranking.notes)
    assert ranking.places() == {"mu": 1}


def test_runs_without_numbers_are_counted() -> None:
    rows = [{name: value for name, value in row.items() if name != "seed"} for row in random_ledger(0)]
    assert ranked(rows, repeats=None).to_json() == ranked(random_ledger(0)).to_json()


def test_nothing_is_lost_on_the_way_to_files() -> None:
    ranking = ranked(random_ledger(0))
    frame = ranking.to_frame()
    assert frame["measure"].tolist() == ["mu"]
    assert frame["kendall_low"][0] == ranking["mu"]["kendall"].low
    assert frame["psi_lr"][0] == ranking.by_hyperparameter["mu"]["lr"].value
    assert json.loads(ranking.to_json())["measures"]["mu"]["kendall"]["value"] == ranking["mu"]["kendall"].value
    assert pd.read_csv(pd.io.common.StringIO(ranking.to_csv()))["fragility"][0] == pytest.approx(
        ranking["mu"]["fragility"].value
    )
    assert "note: " in str(ranking)
    assert "Kendall tau" in ranking._repr_html_()


def test_the_pictures_show_every_network_and_environment() -> None:
    ranking = ranked(random_ledger(0), smallest_environment=2)
    assert sum(len(points.get_offsets()) for points in ranking.plot_scatter("mu").collections) == 36
    heights = np.asarray(ranking.plot().lines[0].get_ydata())
    assert len(heights) == ranking.environments + 2
