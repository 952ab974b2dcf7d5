"""Declarations as a terminal can show them: reStructuredText and LaTeX in plain characters."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LETTERS = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
    "xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_SIGNS = {
    "sum": "∑", "prod": "∏", "partial": "∂", "nabla": "∇", "ell": "\N{SCRIPT SMALL L}", "infty": "∞", "cdot": "·", "circ": "∘",
    "times": "\N{MULTIPLICATION SIGN}", "otimes": "⊗", "pm": "±", "le": "≤", "ge": "≥", "ne": "≠", "sim": "~", "approx": "≈", "in": "∈",
    "to": "→", "succ": "≻", "|": "‖", "lVert": "‖", "rVert": "‖", "lvert": "|", "rvert": "|", "langle": "⟨", "rangle": "⟩",
    ",": " ", ";": " ", " ": " ", "!": "", "quad": "  ", "qquad": "   ",
}  # fmt: skip
_SYMBOLS = (
    {rf"\{name}": chr(0x3B1 + index) for index, name in enumerate(_LETTERS)}
    | {rf"\{name.capitalize()}": chr(0x391 + index) for index, name in enumerate(_LETTERS)}
    | {rf"\{name}": sign for name, sign in _SIGNS.items()}
)
_RAISED = str.maketrans("0123456789+-T", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀ")
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\s+|.")
_TERM = r"\d+|∂?[²³]? ?\w(_\w+)?'?[²³]?"
_BEFORE = {
    r"\\bar\s*(?:\{(\w)\}|(\w))": "\\1\\2\N{COMBINING MACRON}",
    r"\\(?:[bB]igg?[lr]?|left|right)(?![a-zA-Z])": "",
    r"(\\(?:lVert|lvert|langle))\s+": r"\1{}",
    r"\s+(\\(?:rVert|rvert|rangle))": r"\1",
    r"(\\(?:ln|log|exp|det|max|min|cos))(?=[\\a-zA-Z0-9])": r"\1 ",
}
_AFTER = {r"\s+": " ", r"([(\[]) ": r"\1", r" ([)\]])": r"\1", r"(∂²?) ": r"\1"}


def plain_text(text: str) -> str:
    """Take the markup out of text with roles in reStructuredText."""
    text = re.sub(r":math:`([^`]*)`", lambda found: plain_math(found[1]), text)
    text = re.sub(r":doc:`([^`]*)`", r"docs/\1.md", text)
    text = re.sub(r":\w+:`~?(?:[^`]*\.)?([^`.]*)`", r"\1", text)
    return re.sub(r"``([^`]*)``|\*+([^*]+)\*+", lambda found: found[1] or found[2], text)


def plain_math(latex: str) -> str:
    """Write an equation in LaTeX in one line of plain characters."""
    for pattern, replacement in _BEFORE.items():
        latex = re.sub(pattern, replacement, latex)
    plain = _sequence(iter(_TOKEN.findall(latex)))
    for pattern, replacement in _AFTER.items():
        plain = re.sub(pattern, replacement, plain)
    return plain.strip()


def _sequence(tokens: Iterator[str]) -> str:
    """Read all up to the brace that closes."""
    pieces = []
    for token in tokens:
        if token == "}":
            break
        pieces.append(_piece(token, tokens))
    return "".join(pieces)


def _piece(token: str, tokens: Iterator[str]) -> str:
    """Read the arguments of a token, if it takes any, and write both."""
    if token == "{":
        return _sequence(tokens)
    if token == "_":
        return "_" + _grouped(_argument(tokens), r"\w+⁺?|.")
    if token == "^":
        exponent = _argument(tokens)
        return exponent.translate(_RAISED) if re.fullmatch(r"[-+]?\d*|T", exponent) else "^" + _grouped(exponent, r".")
    if token in (r"\frac", r"\tfrac", r"\dfrac"):
        above, below = _argument(tokens), _argument(tokens)
        return f"{_grouped(above, _TERM)}/{_grouped(below, _TERM)}"
    if token == r"\sqrt":
        return "√" + _grouped(_argument(tokens), r"\w")
    if token in (r"\mathrm", r"\operatorname", r"\text"):
        return _argument(tokens)
    return _SYMBOLS.get(token, token.removeprefix("\\"))


def _argument(tokens: Iterator[str]) -> str:
    token = next((token for token in tokens if not token.isspace()), "}")
    return _piece(token, tokens)


def _grouped(text: str, alone: str) -> str:
    """Put text into parentheses, unless it can stand alone."""
    return text if re.fullmatch(alone, text) else f"({text})"
