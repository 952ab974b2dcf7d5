"""Equations as MathML, made when the pages are built: readable offline and without a script."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write an equation in a line of text."""
    translator.body.append(to_mathml(node.astext(), display="inline"))
    raise nodes.SkipNode


def visit_display(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation on a line of its own, with its number if it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="math-display"))
    translator.body.append(to_mathml(node.astext(), display="block"))
    if node.get("number"):
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="equation-number">({number})</span>')
        translator.add_permalink_ref(node, "Link to this equation")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def to_mathml(latex: str, *, display: str) -> str:
    """Convert an equation; raise on a command that would come out as its own name."""
    mathml = convert(latex.strip(), display=display)
    if "\\" in mathml or "<mi>&</mi>" in mathml:
        msg = f"the equation has a command that MathML cannot show: {latex!r}"
        raise ValueError(msg)
    return mathml


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
