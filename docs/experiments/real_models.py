"""Networks of other people: the architectures of the ``transformers`` package, of Flax and of Keras, with random weights and small data.

Nothing is downloaded. The images are scikit-learn's digits, enlarged to 32 x 32; the texts are the bytes of this repository's license.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

import invariant_sharpness as ish
from invariant_sharpness.protocol import CurvatureOracle

LICENSE = Path(__file__).parents[2] / "LICENSE"
VOCABULARY = 256

Problem = tuple[nn.Module, Any]
"""A model in eval mode, and data."""


def digits(start: int, stop: int, *, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of the digits, standardized, as images of 32 x 32, and their labels."""
    images = torch.as_tensor(load_digits().images, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    enlarged = nn.functional.interpolate(images[start:stop, None], size=(32, 32), mode="bilinear")
    return enlarged.expand(-1, channels, -1, -1), torch.as_tensor(load_digits().target[start:stop])


def texts(number: int, length: int) -> dict[str, torch.Tensor]:
    """The first bytes of the license, cut into texts of equal length, as a batch of a language model."""
    tokens = torch.tensor(list(LICENSE.read_bytes()[: number * length])).reshape(number, length)
    return {"input_ids": tokens, "labels": tokens}


def resnet18(examples: int = 8, activation: str = "relu") -> Problem:
    """The 18-layer residual network, with the statistics of some hundred images in its batch norms."""
    torch.manual_seed(0)
    configuration = ResNetConfig(
        layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], hidden_act=activation, num_labels=10
    )
    model = ResNetForImageClassification(configuration).train()
    with torch.no_grad():
        for start in range(1000, 1320, 64):
            model(digits(start, start + 64, channels=3)[0])
    return model.eval(), digits(0, examples, channels=3)


def vision_transformer(layers: int = 12, width: int = 192, heads: int = 3, patch: int = 4) -> Problem:
    """A vision transformer; by default of the size that is known as ViT-Ti."""
    torch.manual_seed(0)
    configuration = ViTConfig(
        image_size=32,
        patch_size=patch,
        num_channels=1,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_labels=10,
    )
    return ViTForImageClassification(configuration).eval(), digits(0, 16, channels=1)


def gpt2(layers: int = 4, width: int = 128, *, tied: bool = True) -> Problem:
    """A language model that reads bytes."""
    torch.manual_seed(0)
    configuration = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=tied,
    )
    return GPT2LMHeadModel(configuration).eval(), texts(8, 64)


def next_bytes(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels, shifted by one: each byte is predicted from those before it."""
    return model(input_ids=batch["input_ids"]).logits[:, :-1], batch["labels"][:, 1:]


def bert() -> Problem:
    """The encoder of two layers that is known as BERT-tiny, with bytes for words; it tells which quarter of the license a text is from."""
    torch.manual_seed(0)
    configuration = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=4,
    )
    tokens = texts(160, 64)["input_ids"][::10]
    labels = torch.arange(len(tokens)) * 4 // len(tokens)
    return BertForSequenceClassification(configuration).eval(), {"input_ids": tokens, "labels": labels}


def convnext() -> Problem:
    """ConvNeXt-tiny, with patches of 2 pixels instead of 4."""
    torch.manual_seed(0)
    configuration = ConvNextConfig(num_channels=1, patch_size=2, num_labels=10)
    return ConvNextForImageClassification(configuration).eval(), digits(0, 4, channels=1)


def flax_vit() -> CurvatureOracle:
    """A vision transformer of four layers of width 64, made of Flax's modules."""
    import jax
    from flax import linen

    from invariant_sharpness_jax import from_linen

    class Layer(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = x + linen.MultiHeadDotProductAttention(num_heads=4)(linen.LayerNorm()(x))
            return x + linen.Dense(64)(linen.gelu(linen.Dense(256)(linen.LayerNorm()(x))))

    class Transformer(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = linen.Conv(64, (4, 4), strides=(4, 4))(x).reshape(len(x), -1, 64)
            x = x + self.param("positions", linen.initializers.normal(0.02), x.shape[1:])
            for _ in range(4):
                x = Layer()(x)
            return linen.Dense(10)(linen.LayerNorm()(x.mean(1)))

    images, labels = digits(0, 16, channels=1)
    x, module = images.movedim(1, -1).numpy(), Transformer()
    apply, parameters = from_linen(module, module.init(jax.random.key(0), x))
    return ish.oracle(apply, (x, labels.numpy()), parameters=parameters)


def efficientnet() -> CurvatureOracle:
    """EfficientNet-B0 of Keras, with the statistics of 64 other images in its batch norms."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.EfficientNetB0(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
    )
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(digits(1000, 1064, channels=3)[0].movedim(1, -1).numpy(), training=True)
    images, labels = digits(0, 8, channels=3)
    return ish.oracle(model, (images.movedim(1, -1).numpy(), labels.numpy()))
