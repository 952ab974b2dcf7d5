"""A watched run of PyTorch ends in the same bits as one that nobody watches, in plain loops, Lightning and transformers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import invariant_sharpness as ish
from invariant_sharpness_torch import lightning_callback, trainer_callback
from zoo.keras_programs.tensorboard_files import scalars

METRICS = ["hessian_spectral_norm", "preconditioned_sharpness", "normalized_sharpness"]
GENERATOR = torch.Generator().manual_seed(1)
X, Y = torch.randn(64, 8, generator=GENERATOR), torch.randint(0, 3, (64,), generator=GENERATOR)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))


def bits(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[bytes]:
    """Parameters, buffers, gradients, state of the optimizer, random states and modes."""
    state = [*model.state_dict().values(), *(p.grad for p in model.parameters() if p.grad is not None)]
    moments = [v for one in optimizer.state.values() for v in one.values() if isinstance(v, torch.Tensor)]
    arrays = [
        t.detach().view(-1).view(torch.uint8).numpy().tobytes() for t in (*state, *moments, torch.get_rng_state())
    ]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    return [*arrays, repr((states, [module.training for module in model.modules()])).encode()]


def trained(monitors: list[ish.Monitor], *, autocast: bool, steps: int = 30) -> list[bytes]:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    model = network()
    model[0].eval()  # a part that stays in evaluation mode
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        rows = torch.randperm(64)[:16]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
            loss.backward()
            for monitor in monitors:  # with gradients that are there, and under autocast
                monitor.step(model, step=step, optimizer=optimizer, train_loss=loss)
        optimizer.step()
        if step < steps - 1:
            optimizer.zero_grad()
    return bits(model, optimizer)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_watched_run_ends_in_the_same_bits(autocast: bool) -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True)  # which draws from the global generator
    monitors = [ish.Monitor(METRICS, (X, Y), every=10), ish.Monitor("hessian_trace", loader, every=7)]
    assert trained(monitors, autocast=autocast) == trained([], autocast=autocast)
    assert [[entry.step for entry in monitor] for monitor in monitors] == [[0, 10, 20], [0, 7, 14, 21, 28]]
    assert all(not monitor[-1].errors for monitor in monitors)
    assert monitors[0][0].errors.keys() == {"preconditioned_sharpness"}, "before the first step of the optimizer"
    assert monitors[0][-1].threshold == pytest.approx(38 / 1e-2)


def test_entries_are_those_of_evaluation_mode() -> None:
    model = network()
    monitor = ish.Monitor("hessian_trace", (X, Y))
    entry = monitor.step(model)
    assert entry is not None
    assert model.training
    assert entry.estimates["hessian_trace"] == ish.hessian_trace(ish.oracle(model.eval(), (X, Y)))


def test_a_model_that_changes_its_precision_is_measured_in_it() -> None:
    model = network()
    monitor = ish.Monitor("hessian_trace", (X, Y), every=1)
    for change in (model.float, model.bfloat16, model.half, model.double):
        monitor.step(change())
    assert [entry.signature.split("; ")[4] for entry in monitor] == ["float32", "bfloat16", "float16", "float64"]
    values = [entry.estimates["hessian_trace"].value for entry in monitor]
    np.testing.assert_allclose(values, values[0], rtol=2.0**-5)


def test_weights_that_are_nan_are_entries() -> None:
    model = network()
    monitor = ish.Monitor("hessian_trace", (X, Y), every=1)
    weight = model[0].weight.detach()[0, 0].item()
    for value in (float("nan"), weight):
        with torch.no_grad():
            model[0].weight[0, 0] = value
        monitor.step(model)
    assert [len(entry.errors) for entry in monitor] == [1, 0]
    assert "NaN" in monitor[0].errors["hessian_trace"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_lightning_trains_to_the_same_bits_and_logs_the_values(tmp_path: Any) -> None:
    lightning = pytest.importorskip("lightning")
    pytest.importorskip("torch.utils.tensorboard")  # its import draws random numbers

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def run(board: Any, *callbacks: Any) -> list[bytes]:
        lightning.seed_everything(0, verbose=False)
        module, loader = Module(), DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True)
        trainer = lightning.Trainer(
            max_epochs=5,
            callbacks=list(callbacks),
            logger=board,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            default_root_dir=tmp_path,
        )
        trainer.fit(module, loader)
        return bits(module, trainer.optimizers[0])

    monitor = ish.Monitor("hessian_spectral_norm", (X, Y), every=8)
    alone, board = (lightning.pytorch.loggers.TensorBoardLogger(tmp_path, name=name) for name in ("alone", "watched"))
    assert run(board, lightning_callback(monitor)) == run(alone)
    assert [entry.step for entry in monitor] == [1, 8, 16]
    assert monitor[-1].learning_rate == 0.1
    logged = scalars(board.log_dir, "sharpness/hessian_spectral_norm")
    for entry in monitor:  # Lightning counts steps from zero
        value = entry.estimates["hessian_spectral_norm"].value
        assert logged[entry.step - 1] == pytest.approx(value, rel=1e-6), f"{logged}: {value} at step {entry.step}"


@pytest.mark.slow
def test_a_trainer_of_transformers_ends_in_the_same_bits_and_logs_the_values(tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers")

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.network(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def run(monitor: ish.Monitor | None) -> tuple[list[bytes], list[dict[str, float]]]:
        model = Classifier()
        settings = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=20, learning_rate=1e-2, save_strategy="no", use_cpu=True,
            report_to=[] if monitor is None else "tensorboard",
            disable_tqdm=True, logging_steps=10, seed=0, lr_scheduler_type="constant",
        )  # fmt: skip
        rows = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
        trainer = transformers.Trainer(model=model, args=settings, train_dataset=rows)
        if monitor is not None:
            trainer.add_callback(trainer_callback(monitor, trainer.log))
        trainer.train()
        return bits(model, trainer.optimizer.optimizer), trainer.state.log_history

    def forward(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return model(batch["x"], batch["labels"])["logits"], batch["labels"]

    monitor = ish.Monitor(METRICS, [{"x": X, "labels": Y}], every=10, forward=forward)
    watched, history = run(monitor)
    assert watched == run(None)[0]
    assert [entry.step for entry in monitor] == [1, 10, 20]
    assert not any(entry.errors for entry in monitor)
    logged = [one["sharpness/hessian_spectral_norm"] for one in history if "sharpness/hessian_spectral_norm" in one]
    values = {entry.step: entry.estimates["hessian_spectral_norm"].value for entry in monitor}
    assert logged == list(values.values())
    found = scalars(next(tmp_path.rglob("events.out.*")).parent, "train/sharpness/hessian_spectral_norm")
    assert found == pytest.approx(values, rel=1e-7), f"TensorBoard has {found}, the entries {values}"
