"""Pages of results: all text escaped, nothing loaded, pictures inside, light and dark; looked at in a browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import invariant_sharpness as ish
from invariant_sharpness.results.pages import write_page
from invariant_sharpness_numpy import ReluNetwork

image = pytest.importorskip("matplotlib.image")

NASTY = "<script>alert('x')</script> & \"[bold]"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium or chrome on the path: apt-get install chromium"
)
EMPTY = {"meta", "img", "br"}
GREEN = (0x00, 0x9E, 0x73)


def oracle(seed: int) -> ish.CurvatureOracle:
    x = np.random.default_rng(0).normal(size=(12, 4))
    return ish.oracle(ReluNetwork.initialize((4, 5, 3), seed=seed), (x, np.arange(12) % 3))


def trace(oracle: ish.CurvatureOracle) -> ish.Estimate:
    found = ish.hessian_trace(oracle)
    return ish.Estimate(NASTY, found.value, NASTY, per_group=found.per_group, notes=(NASTY,))


METRICS = [ish.hessian_trace, trace]
RESULTS = {
    "report": lambda: ish.measure(oracle(0), METRICS),
    "comparison": lambda: ish.compare({NASTY: oracle(0), "other": oracle(1)}, METRICS),
    "certificate": lambda: ish.certify(oracle(0), ["hessian_trace", "normalized_sharpness"]),
}


@pytest.fixture(scope="module", params=RESULTS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    result = RESULTS[request.param]()
    path = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    result.to_html(path)
    return result, path


class Balanced(HTMLParser):
    """Reads a page, and fails where tags do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_tags_match_and_the_users_text_is_text(made: tuple[Any, Path]) -> None:
    result, path = made
    page = parsed(path.read_text())
    assert "script" not in page.seen
    assert isinstance(result, ish.Certificate) or NASTY in page.text
    assert result.signature in page.text.replace("\n", " ")
    assert {"table", "thead", "tbody", "caption", "img", "figcaption", "footer"} <= set(page.seen)


def test_pages_load_nothing(made: tuple[Any, Path]) -> None:
    page = made[1].read_text()
    sources = re.findall(r"(?:src|href)=.([^\"']*)", page)
    assert sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "url(" not in page


def test_tables_have_all_cells(made: tuple[Any, Path]) -> None:
    result, path = made
    table, page = result.table(), parsed(path.read_text())
    assert page.seen.count("th") == len(table.columns)
    assert page.seen.count("td") == len(table.columns) * len(table.rows)


@pytest.mark.parametrize("name", RESULTS)
def test_notebooks_show_the_table(name: str) -> None:
    shown = parsed(RESULTS[name]()._repr_html_())
    assert shown.seen.count("table") == 1
    assert "script" not in shown.seen


def test_an_estimate_is_shown_with_its_error() -> None:
    shown = parsed(trace(oracle(0))._repr_html_())
    assert shown.text == str(trace(oracle(0)))


def test_without_matplotlib_there_are_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = ish.measure(oracle(0), ["hessian_trace"])
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    report.to_html(tmp_path / "page.html")
    page = parsed((tmp_path / "page.html").read_text())
    assert "img" not in page.seen
    assert "needs matplotlib, which is not installed" in page.text


def test_an_empty_page_is_a_page(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", title=NASTY, tables=[], pictures=[], signature=NASTY)
    assert parsed((tmp_path / "page.html").read_text()).text.count(NASTY) == 3


def seen_by_browser(page: Path, picture: Path, *options: str) -> npt.NDArray[np.uint8]:
    """A screenshot of the page, as rows of pixels with red, green and blue."""
    assert BROWSER is not None
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1200"]
    home = f"--user-data-dir={picture.parent / 'browser'}"
    command = [BROWSER, *quiet, home, *options, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    return np.asarray(np.round(image.imread(picture)[:, :, :3] * 255), dtype=np.uint8)


@pytest.mark.slow
@needs_browser
def test_a_browser_shows_the_page_in_light_and_dark(tmp_path: Path) -> None:
    """The corner is the ground; bars of the first model are there in light, and their inverse with the hue turned in dark."""
    path = tmp_path / "page.html"
    ish.compare({"first": oracle(0), "other": oracle(1)}, ["hessian_trace"]).to_html(path)
    light = seen_by_browser(path, tmp_path / "light.png")
    dark = seen_by_browser(path, tmp_path / "dark.png", "--blink-settings=preferredColorScheme=0")
    assert light[0, 0].tolist() == [0xFF, 0xFF, 0xFF]
    assert dark[0, 0].tolist() == [0x16, 0x18, 0x1B]
    assert (light == GREEN).all(axis=2).sum() > 1000, "no bars in the page"
    assert (dark == GREEN).all(axis=2).sum() == 0
    is_text = (light < 64).all(axis=2)
    assert is_text.sum() > 1000, "no text in the page"
    assert (dark[is_text] > 128).all(axis=1).mean() > 0.95, "dark text on a dark ground"


@pytest.mark.slow
@needs_browser
def test_a_browser_reads_the_same_table(tmp_path: Path) -> None:
    assert BROWSER is not None
    result, path = RESULTS["comparison"](), tmp_path / "page.html"
    result.to_html(path)
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'browser'}",
        "--dump-dom",
    ]
    found = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True, timeout=120).stdout
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", found)
    assert cells == re.findall(r"<td[^>]*>([^<]*)</td>", path.read_text().replace("&quot;", '"').replace("&#x27;", "'"))
    assert len(cells) == len(result.table().columns) * len(result.metrics)
