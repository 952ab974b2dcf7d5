"""The command ``rank`` prints what ``ish.rank`` finds, writes it to files, and explains what is wrong with a ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import invariant_sharpness as ish
from zoo.command_line import invoke
from zoo.ledgers import NAMES, random_ledger

OPTIONS = ("--hyperparameters", "lr,width,depth", "--resamples", "5")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.csv"
    pd.DataFrame(random_ledger(0)).to_csv(path, index=False)
    return path


def test_json_is_the_ranking(ledger: Path) -> None:
    result = invoke("rank", str(ledger), *OPTIONS, "--json")
    assert result.exit_code == 0, result.output
    expected = json.loads(ish.rank(random_ledger(0), ["mu"], hyperparameters=NAMES, resamples=5).to_json())
    assert json.loads(result.stdout) == {"ledger": str(ledger)} | expected


def test_files_are_written(ledger: Path) -> None:
    table, picture = ledger.with_name("ranking.csv"), ledger.with_name("errors.png")
    result = invoke("rank", str(ledger), *OPTIONS, "--csv", str(table), "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert pd.read_csv(table)["measure"].tolist() == ["mu"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "Kendall tau" in result.stdout


def test_a_column_that_is_not_there_is_named(ledger: Path) -> None:
    result = invoke("rank", str(ledger), *OPTIONS, "--gap", "gpa")
    assert result.exit_code == 1
    assert "no column 'gpa' in the ledger (did you mean 'gap'?)" in result.stderr.replace("\n", " ")
