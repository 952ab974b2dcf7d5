"""Peak memory over a large vocabulary: a small GPT-2 with the 50,257 words of the large one.

    python docs/experiments/vocabulary.py

Two blocks of width 64 and 4 texts of 128 tokens, in single precision. What is printed is the peak of resident memory during a call, above what was
there before it, in arrays of the logits of one text (128 x 50,257 numbers, 25.7 MB): the library computes one text at a time here. Linux alone
tells the peak of a part of a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

import invariant_sharpness as ish
from invariant_sharpness import prng

TEXTS, TOKENS, WORDS = 4, 128, 50_257
LOGITS = 4 * TOKENS * WORDS


def oracle() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=WORDS, n_embd=64, n_layer=2, n_head=4, n_positions=TOKENS)
    tokens = torch.randint(WORDS, (TEXTS, TOKENS))
    data = {"input_ids": tokens, "labels": tokens}
    return ish.oracle(transformers.GPT2LMHeadModel(config).eval(), data, "next_token_cross_entropy")


def resident(word: str) -> int:
    """Bytes of this process, now (``VmRSS``) or at most since the peak was forgotten (``VmHWM``)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(word))
    return 1024 * int(line.split()[1])


def peak(call: Any) -> float:
    """How many arrays of logits a call takes at most."""
    call()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    call()
    return (resident("VmHWM") - before) / LOGITS


def main() -> None:
    of = oracle()
    point, vector = of.parameters, prng.signs(of, 0, 0)
    names = frozenset(group.name for group in of.groups)
    calls = {
        "loss": lambda: of.loss(point),
        "gradient": lambda: of.gradient(point),
        "Hessian-vector product": lambda: of.hessian_vector_product(point, vector),
        "Gauss-Newton product": lambda: of.gauss_newton_vector_product(point, vector),
        "a sample of the outputs": lambda: of.sampled_gauss_newton_diagonal(point, names, range(1), 0),
    }
    for name, call in calls.items():
        print(f"{name}: {peak(call):.1f} arrays of logits", flush=True)


if __name__ == "__main__":
    main()
