"""Pages in a real browser: they load without an error on the console, at the width of a phone and of a desk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from test_comparison_page import compared
from test_page import Parsed, shrunk

from gaprune.evaluation.quality.changed import ChangedQueries
from gaprune.report.comparison import comparison_page
from gaprune.report.page import report_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--enable-logging=stderr",
)  # fmt: skip
PROBE = """<script>
addEventListener("load", () => {
  const page = document.documentElement;
  page.dataset.wide = page.scrollWidth;
  if (innerWidth < 600) page.style.width = "420px";  // that of a phone
  const beyond = [...document.querySelectorAll(".scroll")].map((each) => each.scrollWidth - each.clientWidth);
  page.dataset.beyond = Math.max(...beyond);
});
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")


def whole() -> str:
    """Return a page that has every section."""
    found = [{"text": f"a document about {each}, " * 8, "is_relevant": each == "b"} for each in "abcde"]
    query = {"query": "a question", "value": 0.2, "parent": 1.0, "found": found, "found_by_parent": found[::-1]}
    return report_page(shrunk(), ChangedQueries.model_validate({"worse": [query] * 10, "better": [query] * 10}))


def browse(page: str, folder: Path, width: int) -> tuple[str, str]:
    """Return the page as the browser has it after loading, and the log."""
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    own = (f"--user-data-dir={folder / 'user'}", f"--window-size={width},900", "--dump-dom", file.as_uri())
    done = subprocess.run([CHROMIUM, *FLAGS, *own], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


PAGES = {
    "model": (whole, {"answer", "quality", "removed", "cost", "mixes", "recovery", "queries", "recipe"}),
    "comparison": (lambda: comparison_page(compared()), {"answer", "quality", "curves", "data", "recipe"}),
}


@pytest.mark.parametrize("width", [500, 1280])  # a headless Chromium has no narrower window than 500
@pytest.mark.parametrize("name", PAGES)
def test_it_loads_without_an_error_and_fits(name, width, tmp_path):
    make, wanted = PAGES[name]
    page = make()
    sections = Parsed(page).sections
    assert wanted <= set(sections)
    probed = page.replace("; style-src", "; script-src 'unsafe-inline'; style-src").replace(
        "</body>", f"{PROBE}</body>"
    )
    found, log = browse(probed, tmp_path, width)
    assert "CONSOLE" not in log, log
    assert found.count("<section") == len(sections)
    wide, beyond = (int(found.partition(f'data-{name}="')[2].partition('"')[0]) for name in ("wide", "beyond"))
    assert wide <= width
    assert beyond <= 0, "no table scrolls sideways"


def test_an_error_would_be_seen(tmp_path):
    page = whole().replace("</body>", '<img src="data:,x"></body>')
    assert "CONSOLE" in browse(page, tmp_path, 500)[1]
