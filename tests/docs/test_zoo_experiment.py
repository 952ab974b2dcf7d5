"""A zoo that is killed goes on where it stopped, and the ledgers that are kept are of the grids that the pages name."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from zoo_grid import Setting, settings
from zoo_ledger import run

from zoo import EXPERIMENTS

KILLS = 10

PACKAGES = {"torch": "torch", "jax": "flax"}
"""What the networks of a framework are built of."""

KEPT = {
    "kept": ["kept"],
    "random_labels": ["random_labels_mlp", "random_labels_lenet", "random_labels_cifar10"],
    "random_labels_epochs": ["random_labels_mlp"],
}


def line(setting: Setting) -> dict[str, Any]:
    return setting.to_dict() | {"gap": setting.learning_rate / 10, "trace": float("nan")}


def test_a_killed_run_ends_with_the_same_lines(tmp_path: Path) -> None:
    whole, ledger = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(settings("digits"), line, whole)
    expected = whole.read_bytes()
    for size in np.random.default_rng(0).integers(0, len(expected), 10):
        ledger.write_bytes(expected[:size])
        run(settings("digits"), line, ledger)
        assert ledger.read_bytes() == expected, f"killed after {size} of {len(expected)} bytes"


def command(framework: str, ledger: Path) -> list[str]:
    options = ["--grid", "digits", "--framework", framework, "--ledger", str(ledger)]
    return [sys.executable, str(EXPERIMENTS / "zoo.py"), *options]


def seconds_of_networks(ledger: Path) -> list[float]:
    lines = ledger.with_suffix(".jsonl.seconds").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["seconds"] for line in lines]


def killed_at_random(ledger: Path, longest: float) -> int:
    """How many of the runs were killed before they ended by themselves."""
    kills = 0
    for wait in np.random.default_rng(0).uniform(0, longest, KILLS):
        with subprocess.Popen(command("torch", ledger), stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
        kills += process.returncode == -signal.SIGKILL
    return kills


@pytest.mark.slow
def test_a_killed_process_ends_with_the_same_lines(tmp_path: Path) -> None:
    """On PyTorch alone: the runner knows no framework, and JAX takes minutes to compile the same networks again and again."""
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    whole, ledger = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    started = perf_counter()
    subprocess.run(command("torch", whole), check=True, stdout=subprocess.DEVNULL)
    networks = seconds_of_networks(whole)
    longest = perf_counter() - started - sum(networks) + 2 * float(np.mean(networks))  # the start, and two networks
    kills = killed_at_random(ledger, longest)
    assert kills > KILLS / 2, f"only {kills} of {KILLS} runs were killed"
    kept = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
    subprocess.run(command("torch", ledger), check=True, stdout=subprocess.DEVNULL)
    lines, expected = (file.read_text(encoding="utf-8").splitlines() for file in (ledger, whole))
    assert kept > 0, "no killed run wrote a line"
    assert lines == expected, f"{kept} lines of runs that were killed at random, {len(lines)} of {len(expected)} in all"


@pytest.mark.parametrize("framework", PACKAGES)
def test_a_ledger_of_another_framework_is_refused(framework: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    (other,) = PACKAGES.keys() - {framework}
    column = {"jax": {"framework": "jax"}, "torch": {}}[other]  # a line that says nothing is PyTorch's
    run(settings("digits"), lambda setting: line(setting) | column, ledger)
    refused = subprocess.run(command(framework, ledger), capture_output=True, text=True)
    assert refused.returncode == 1
    assert f"has lines of {other}" in refused.stderr, refused.stderr


@pytest.mark.parametrize("ledger", KEPT)
def test_kept_ledgers_have_every_network_of_their_seeds_once(ledger: str) -> None:
    """A run that was stopped may lack seeds, and no network of those that it has."""
    with gzip.open(EXPERIMENTS / "ledgers" / f"{ledger}.jsonl.gz", "rt") as file:
        rows = [json.loads(text) for text in file]
    seeds = {(row["data"], row["architecture"], row["seed"]) for row in rows}
    wanted = [
        setting.to_dict()
        for grid in KEPT[ledger]
        for setting in settings(grid)
        if (setting.data, setting.architecture, setting.seed) in seeds
    ]
    found = [{name: row[name] for name in wanted[0]} for row in rows]
    missing = [setting for setting in wanted if setting not in found]
    assert not missing, f"{len(missing)} networks are missing, such as {missing[0]}"
    assert len(found) == len(wanted), f"{len(found)} networks for {len(wanted)} settings"


def test_wide_resnet_has_its_parameters() -> None:
    """16 layers with a factor of 4; biases of convolutions, of which the original has none, are not counted."""
    pytest.importorskip("torch")
    from torch import nn
    from zoo_torch import build

    network = build(settings("random_labels_wide_resnet")[-1], (3, 32, 32))
    biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d)]
    found = sum(p.numel() for p in network.parameters()) - sum(b.numel() for b in biases)
    assert found == 2_748_890, f"{found} parameters"


@pytest.mark.slow
def test_narrow_wide_resnet_is_trained_and_measured() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from reproduction import network_line

    setting = Setting(data="digits", architecture="wide_resnet", width=4, depth=1, norm=True)
    found = network_line(setting, None, examples=64, epochs=2)
    assert found["epochs"] == 2
    measured = {name: value for name, value in found.items() if "trace" in name or "sharpness" in name}
    assert len(measured) == 4, measured
    assert all(value > 0 for value in measured.values()), measured


@pytest.mark.parametrize(("small_loss", "epochs"), [(0.0, 3), (10.0, 1)])
def test_training_stops_at_a_loss_or_after_epochs(small_loss: float, epochs: int) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from zoo_data import images
    from zoo_torch import train

    setting = Setting(data="digits", width=16)
    trained = train(setting, images(setting, None), small_loss=small_loss, most_epochs=3)
    assert trained.epochs == epochs, f"{trained.epochs} epochs, training loss {trained.loss}"
