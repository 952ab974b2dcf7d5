"""The page of messages quotes messages that the code can give."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from zoo import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = sorted(
    {quote for line in PAGE.splitlines() if line.startswith("`") for quote in re.findall(r"`([^`]+)`", line)}
)


@cache
def messages() -> str:
    """All text in string literals of the library, with what is filled in left out."""
    found = []
    for folder in ("invariant_sharpness", "backends"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append(
                        "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


@pytest.mark.parametrize("quote", [quote for quote in QUOTED if "hessian_vector_products" not in quote])
def test_quoted_message_stands_in_the_code(quote: str) -> None:
    assert quote in messages(), f"no string of the library contains {quote!r}"
