"""Results as HTML: tables for notebooks, and pages that need no other file. All text of the user's is escaped."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from invariant_sharpness.errors import MissingDependencyError

_STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5b6168; --line: #d7dade; --ground: #ffffff; --warn: #b00020 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --soft: #a2a9b0; --line: #3a3f45; --ground: #16181b; --warn: #ff8a80 }
  img { filter: invert(1) hue-rotate(180deg) }
}
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground) }
h1 { font-size: 1.5rem }
section { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { caption-side: top; text-align: left; padding-bottom: .5rem; white-space: pre-line }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap }
.number { text-align: right }
.failed { color: var(--warn); font-weight: bold }
.notes, footer, figcaption { color: var(--soft); font-size: .9rem; white-space: pre-line }
figure { margin: 2rem 0 }
img { max-width: 100%; height: auto }
code { overflow-wrap: anywhere }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{parts}
<footer>Signature: <code>{signature}</code></footer>
</body>
</html>
"""


class Picture(NamedTuple):
    """A picture of a page.

    Parameters
    ----------
    words
        What it shows, for those who do not see it, and below it.
    draw
        Returns matplotlib axes of a figure of their own.
    """

    words: str
    draw: Callable[[], Any]


def write_page(
    path: str | PathLike[str], *, title: str, tables: Iterable[Table], pictures: Iterable[Picture], signature: str
) -> None:
    """Write a page that needs no other file, in light or dark as the reader's system is.

    Parameters
    ----------
    path
        The file, which is overwritten.
    title, signature
        Plain text.
    tables, pictures
        In their order. Pictures are left out, with a word on it, where matplotlib is not installed.
    """
    parts = [f"<section>\n{table_html(table)}\n</section>" for table in tables]
    try:
        parts += [_figure(picture) for picture in pictures]
    except MissingDependencyError as error:
        parts.append(f'<p class="notes">{escape(str(error))}</p>')
    page = _PAGE.format(title=escape(title), style=_STYLE, parts="\n".join(parts), signature=escape(signature))
    Path(path).write_text(page, encoding="utf-8")


def table_html(table: Table) -> str:
    """Write a :mod:`rich` table as a table of HTML, with its title above it and its caption below."""
    head = "".join(f'<th scope="col"{_justified(c.justify)}>{_plain(c.header)}</th>' for c in table.columns)
    title = f"<caption>{_plain(table.title)}</caption>" if table.title else ""
    notes = f'\n<p class="notes">{_plain(table.caption)}</p>' if table.caption else ""
    body = "\n".join(_rows(table))
    return f"<table>{title}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>{notes}"


def _rows(table: Table) -> Iterator[str]:
    justified = [_justified(column.justify) for column in table.columns]
    for row, cells in zip(table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True):
        style = ' class="failed"' if row.style else ""
        yield f"<tr{style}>{''.join(f'<td{j}>{_plain(cell)}</td>' for j, cell in zip(justified, cells, strict=True))}</tr>"


def _justified(justify: str) -> str:
    return ' class="number"' if justify == "right" else ""


def _plain(cell: RenderableType | None) -> str:
    """The text of a cell without the markup of the terminal."""
    text = cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain
    return escape(text)


def _figure(picture: Picture) -> str:
    """Draw a picture into the page itself."""
    drawn = io.BytesIO()
    figure = picture.draw().figure
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    source = b64encode(drawn.getvalue()).decode("ascii")
    words = escape(picture.words)
    return (
        f'<figure><img src="data:image/svg+xml;base64,{source}" alt="{words}"><figcaption>{words}</figcaption></figure>'
    )
