"""Models that compute a loss of their own from labels, and inputs that are one mapping."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from invariant_sharpness.errors import LossError, ModelError
from zoo.torch_losses import assert_agrees

V, T, N = 5, 6, 4
torch.manual_seed(3)
TOKENS = torch.randint(0, V, (N, T))
PADDED = TOKENS.clone()
PADDED[1, 4:], PADDED[3, 2:] = -100, -100


def shifted(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over all pairs of a position and the label of the next."""
    return functional.cross_entropy(outputs[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def unshifted(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), labels.flatten())


class Language(nn.Module):
    """A model in the manner of Hugging Face: ``model(input_ids, labels=...)`` has ``logits`` and ``loss``."""

    def __init__(self, own: Any = shifted) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.own, self.config = own, SimpleNamespace(problem_type=None)
        self.embed, self.middle, self.head = nn.Embedding(V, 4), nn.Linear(4, 6), nn.Linear(6, V)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, labels: torch.Tensor | None = None
    ) -> Any:
        logits = self.head(torch.relu(self.middle(self.embed(input_ids))))
        if labels is not None:
            self.config.problem_type = "single_label_classification"
        return SimpleNamespace(logits=logits, loss=None if labels is None else self.own(logits, labels))


class Logits(nn.Module):
    """The logits alone, for references."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids).logits


@pytest.mark.parametrize("labels", [TOKENS, PADDED, TOKENS.to(torch.uint8)], ids=["all", "padded", "bytes"])
def test_next_token_cross_entropy_is_the_shifted_loss(labels: torch.Tensor) -> None:
    model = Logits(Language().double())
    assert_agrees(model, TOKENS, labels, "next_token_cross_entropy", lambda z, y: shifted(z, y.long()))


@pytest.mark.parametrize(
    "batch",
    [
        {"input_ids": TOKENS, "labels": TOKENS},
        {"input_ids": TOKENS, "attention_mask": (PADDED >= 0).long(), "labels": PADDED},
        (TOKENS, TOKENS),
        ({"input_ids": TOKENS}, PADDED),
    ],
    ids=["collated", "padded", "pair", "pair of a mapping"],
)
@pytest.mark.parametrize("loss", ["cross_entropy", "normalized_cross_entropy", unshifted])
def test_loss_that_is_not_shifted_is_refused_and_both_ways_out_work(batch: Any, loss: Any) -> None:
    model = Language().double()
    rows = (
        loss
        if isinstance(loss, str)
        else (lambda z, y: torch.stack([loss(a[None], b[None]) for a, b in zip(z, y, strict=True)]))
    )
    if callable(loss) and (batch["labels"] if isinstance(batch, Mapping) else batch[1]) is PADDED:
        pytest.skip("a mean of means of rows with different lengths is another loss")
    with pytest.raises(LossError, match=r"the model itself computes a loss.*next position.*next_token_cross_entropy"):
        ish.oracle(model, [batch], loss=rows)
    assert model.config.problem_type is None, "the configuration of the model was changed"
    own = ish.oracle(model, [batch], loss="next_token_cross_entropy")
    labels = batch["labels"] if isinstance(batch, Mapping) else batch[1]
    assert own.loss(own.parameters) == pytest.approx(float(shifted(model(TOKENS).logits, labels).detach()), rel=1e-12)

    def forward(model: nn.Module, some: Any) -> Any:
        ids, targets = (some["input_ids"], some["labels"]) if isinstance(some, Mapping) else some
        return model(ids["input_ids"] if isinstance(ids, Mapping) else ids).logits, targets

    on_purpose = ish.oracle(model, [batch], loss=rows, forward=forward)
    if loss == "cross_entropy":
        expected = float(unshifted(model(TOKENS).logits, labels).detach())
        assert on_purpose.loss(on_purpose.parameters) == pytest.approx(expected, rel=1e-12)


def test_shift_is_seen_in_an_untrained_model_too() -> None:
    model = Language()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.05)
    with pytest.raises(LossError, match="next_token_cross_entropy"):
        ish.oracle(model, [{"input_ids": TOKENS, "labels": TOKENS}])


def test_models_whose_own_loss_is_the_one_that_is_asked_for_are_measured() -> None:
    batch = {"input_ids": TOKENS, "labels": PADDED}
    for own, loss in ((unshifted, "cross_entropy"), (shifted, "next_token_cross_entropy")):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            model = Language(own).to(dtype)
            oracle = ish.oracle(model, [batch], loss=loss)
            expected = float(own(model(TOKENS).logits.double(), PADDED).detach())
            assert oracle.loss(oracle.parameters) == pytest.approx(expected, rel=1e-6)


def test_own_loss_with_another_term_is_refused_under_plain_cross_entropy_alone() -> None:
    def balanced(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return unshifted(outputs, labels) + outputs.square().mean()

    def rows(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nll = functional.cross_entropy(outputs.movedim(-1, 1), labels, reduction="none")
        return nll.mean(1) + outputs.square().mean((1, 2))

    model, batch = Language(balanced).double(), {"input_ids": TOKENS, "labels": TOKENS}
    with pytest.raises(LossError, match=r"computes a loss of [\d.]+ .*pass that loss as a callable"):
        ish.oracle(model, [batch])
    oracle = ish.oracle(model, [batch], loss=rows)
    expected = float(model(TOKENS, labels=TOKENS).loss.detach())
    assert oracle.loss(oracle.parameters) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("labels", [TOKENS[:, :-1], TOKENS[:, 0], TOKENS.flatten()])
def test_next_token_cross_entropy_needs_a_label_for_each_position(labels: torch.Tensor) -> None:
    with pytest.raises(LossError, match=r"outputs of shape \(n, T, K\) and labels of shape \(n, T\)"):
        ish.oracle(Logits(Language()), [(TOKENS, labels)], loss="next_token_cross_entropy")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("padded", [False, True])
def test_next_token_cross_entropy_is_the_loss_of_a_real_language_model(padded: bool) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T, n_embd=8, n_layer=1, n_head=2)).double().eval()
    before = dict(vars(model.config))
    batch = {"input_ids": TOKENS, "labels": PADDED if padded else TOKENS}
    with pytest.raises(LossError, match="next_token_cross_entropy"):
        ish.oracle(model, [batch])
    oracle = ish.oracle(model, [batch], loss="next_token_cross_entropy")
    own = model(**batch).loss
    assert oracle.loss(oracle.parameters) == pytest.approx(
        float(own.detach()), rel=1e-6
    )  # its own is in single precision
    slopes = torch.autograd.grad(own, list(model.parameters()))
    gradient = oracle.gradient(oracle.parameters)
    for (name, _), slope in zip(model.named_parameters(), slopes, strict=True):
        assert float((gradient[name] - slope).abs().max()) <= 1e-6, name
    assert before == vars(model.config)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_real_classifiers_have_no_false_alarm() -> None:
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification

    config = BertConfig(
        vocab_size=V, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3,
        max_position_embeddings=T,
    )  # fmt: skip
    for kind, labels in (
        (BertForMaskedLM, PADDED), (BertForTokenClassification, PADDED.clamp(max=2)), (BertForSequenceClassification, TOKENS[:, 0] % 3),
    ):  # fmt: skip
        model = kind(config).eval()
        oracle = ish.oracle(model, [{"input_ids": TOKENS, "labels": labels}])
        assert config.problem_type is None
        expected = float(model(input_ids=TOKENS, labels=labels).loss.detach())
        assert oracle.loss(oracle.parameters) == pytest.approx(expected, rel=1e-5)


class OfOneMapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.first(batch["a"]) + torch.relu(self.second(batch["b"]))


class OfOneMappingAndOptions(OfOneMapping):
    def forward(self, batch: Mapping[str, torch.Tensor], scale: float = 1.0, **more: Any) -> torch.Tensor:
        return super().forward(batch) * scale


class OfKeywords(OfOneMapping):
    def forward(self, a: torch.Tensor, b: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return super().forward({"a": a, "b": b}) * scale


class OfAnyKeywords(OfOneMapping):
    def forward(self, *args: Any, **batch: torch.Tensor) -> torch.Tensor:
        assert not args
        return super().forward(batch)


@pytest.mark.parametrize("kind", [OfOneMapping, OfOneMappingAndOptions, OfKeywords, OfAnyKeywords])
def test_mapping_is_one_argument_or_keywords_whichever_the_model_takes(kind: type[OfOneMapping]) -> None:
    torch.manual_seed(0)
    model, inputs, labels = kind(), {"a": torch.randn(7, 3), "b": torch.randn(7, 2)}, torch.arange(7) % 4
    outputs = OfOneMapping.forward(model, inputs)
    expected = float(functional.cross_entropy(outputs, labels).detach())
    for data in ((inputs, labels), [(inputs, labels)], [{**inputs, "labels": labels}]):
        oracle = ish.oracle(model, data)
        assert oracle.loss(oracle.parameters) == pytest.approx(expected, rel=1e-6)


def test_mapping_that_a_model_takes_in_no_form_is_named() -> None:
    with pytest.raises(ModelError, match=r"unexpected keyword.*pass forward="):
        ish.oracle(OfKeywords(), ({"a": torch.randn(7, 3), "c": torch.randn(7, 2)}, torch.arange(7) % 4))
