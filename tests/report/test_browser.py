"""The page in a real browser: no complaint, no request, and a filter and a slider that obey the keyboard."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy_robust.report.formats import write_reports
from deploy_robust.report.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, fake, hostile) -> Iterator[tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("page")
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    store, verdict = fake(pairs=[hostile, *(f"pair-{i}" for i in range(5))]).write(folder / "run")
    page = write_reports(folder, store, summarise(store, verdict), ["html"])["html"]
    browser = module.Browser(CHROMIUM, folder / "profile")
    yield browser, page
    browser.close()


@pytest.fixture
def browser(opened: tuple[Any, Path]) -> Any:
    """The page, newly opened."""
    browser, page = opened
    browser.open(page)
    return browser


def test_it_opens_without_a_complaint_or_a_request(browser) -> None:
    assert browser.value("document.title").startswith("INCONCLUSIVE")
    assert browser.value("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.endswith("/report.html")] == []


def test_the_filter_obeys_the_keyboard_and_stands_in_the_address(browser) -> None:
    shown = "[...document.querySelectorAll('.strip')].filter((strip) => !strip.hidden).map((s) => s.dataset.attack)"
    assert len(browser.value(shown)) == 24
    browser.value("document.getElementById('attack-filter').focus()")
    browser.press("ArrowDown", 40)
    assert browser.value("document.getElementById('attack-filter').value") == "pgd-lmse"
    attacks = browser.value(shown)
    assert 0 < len(attacks) < 24
    assert set(attacks) == {"pgd-lmse"}
    assert browser.value("document.getElementById('shown').textContent") == f"{len(attacks)} of 24 shown"
    assert browser.value("location.hash") == "#attack=pgd-lmse"
    browser.value("location.hash = '#attack=corners&epsilon=2'; new Promise((done) => setTimeout(done, 0))")
    assert set(browser.value(shown)) == {"corners"}
    assert browser.complaints() == []


def test_the_slider_obeys_the_keyboard_and_moves_the_line(browser) -> None:
    slider = "document.querySelector('.compare input')"
    assert "Clean output" in browser.value(f"{slider}.getAttribute('aria-label')")
    clip = "getComputedStyle(document.querySelector('.compare .over')).clipPath"
    assert browser.value(clip) == "inset(0px 0px 0px 50%)"
    browser.value(f"{slider}.focus()")
    browser.press("End", 35)
    assert browser.value(clip) == "inset(0px 0px 0px 100%)"
    browser.press("ArrowLeft", 37)
    assert browser.value(clip) == "inset(0px 0px 0px 99%)"
    assert browser.value(f"{slider}.getAttribute('aria-valuetext')") == "99 % clean output"


def test_the_colours_can_be_switched(browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    before = browser.value(background)
    browser.value("document.getElementById('theme').focus()")
    browser.press("Enter", 13)
    browser.value("document.getElementById('theme').click()")
    assert browser.value(background) != before
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out_sideways(browser, width: int) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    assert browser.value("document.documentElement.scrollWidth") <= width
