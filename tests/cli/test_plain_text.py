"""LaTeX and reStructuredText in plain characters, for the terminal."""

from __future__ import annotations

import pytest

from invariant_sharpness.cli.plain_text import plain_math, plain_text


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\operatorname{tr} H", "tr H"),
        (r"\theta_i^2 + W_{ij}^{-1}", "θ_i² + W_ij⁻¹"),
        (r"\frac{\partial^2 L}{\partial\theta_i^2}", "∂²L/∂θ_i²"),
        (r"\frac1\lambda \Bigl( a + \tfrac{b + c}{2m} \Bigr)", "1/λ (a + (b + c)/(2m))"),
        (r"\max_{\|x\| \le 1} \lVert W x \rVert_2", "max_(‖x‖ ≤ 1) ‖W x‖_2"),
        (r"\ln\det\bigl[\sqrt{2/\lambda}\, S^T\bigr]^{1/2}", "ln det[√(2/λ) Sᵀ]^(1/2)"),
        (r"\Psi_{\delta,\epsilon} \in \Omega", "Ψ_(δ,ε) ∈ Ω"),
    ],
)
def test_equation_is_one_line_of_plain_characters(latex: str, expected: str) -> None:
    assert plain_math(latex) == expected


def test_markup_leaves_its_words() -> None:
    marked = "Take ``starts``, *not* :func:`~a.module.name`; :math:`10^{-6}` is in :doc:`page`."
    assert plain_text(marked) == "Take starts, not name; 10⁻⁶ is in docs/page.md."
