"""The page as a file: complete, escaped, closed to the outside and small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from deploy_robust.gate.records import Case
from deploy_robust.report import html
from deploy_robust.report.summary import summarise
from deploy_robust.report.thumbnails import amplified_difference, decode

if TYPE_CHECKING:
    from pathlib import Path


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {key.replace("_", "-").removeprefix("-"): value for key, value in attributes.items()}
        return [a for t, a in self.found if t == tag and all(a.get(k) == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, fake, hostile) -> Elements:
    run = fake(
        pairs=[hostile, *(f"pair-{i}" for i in range(11))],
        attacked=lambda role, attack, level: 10.0 if attack == "pgd-lmse" else 24.0,
        defects=(Case("pair-3", "pgd-lmse", 8.0),),
        plan={"engine": {"file": hostile, "sha256": "ab" * 32}, "notes": [hostile], "versions": {"torch": "2.14.1"}},
    )
    store, verdict = run.write(tmp_path_factory.mktemp("run"))
    return Elements(html.render(summarise(store, verdict), store).decode())


def test_names_are_text_and_never_elements(page: Elements) -> None:
    assert all(a.get("src", "").startswith("data:image/webp;base64,") for a in page.all("img"))  # type: ignore[union-attr]
    assert not any(name.startswith("on") for _, attributes in page.found for name in attributes)
    assert len(page.all("script")) == 1
    assert "<img src=x onerror=alert(1)>\\x1b[31m|`@team`\\u202e[/bold] & co" in page.text


def test_nothing_points_outside_and_the_policy_forbids_it(page: Elements) -> None:
    for tag, attributes in page.found:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)
        assert "url(" not in (attributes.get("style") or "").replace("url(#", "")
    (policy,) = (a["content"] for a in page.all("meta", http_equiv="Content-Security-Policy"))
    assert policy is not None
    assert "default-src 'none'" in policy


def test_everything_is_there_once(page: Elements) -> None:
    assert len(page.all("h1")) == 1
    assert len([a for a in page.all("svg") if a.get("role") == "img"]) == 4  # three charts and the transfer gap
    assert len(page.all("article")) == 24
    assert "24 of 149 attacked images" in page.text
    assert "125 are left out" in page.text
    assert len(page.all("figure", **{"class": "compare"})) == 24
    for word in ("FAIL", "Provenance", "nan", "2.14.1", "ab" * 32, "It cannot pass:", "Difference \u00d74"):
        assert word in page.text
    ids = [a["id"] for _, a in page.found if "id" in a]
    assert len(ids) == len(set(ids))


def test_readers_that_do_not_see_get_words(page: Elements) -> None:
    assert all("alt" in a for a in page.all("img"))
    assert all(a.get("aria-label") for a in page.all("svg") if a.get("role") == "img")
    assert all(a.get("aria-hidden") == "true" or a.get("role") == "img" for a in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("select")) == len(page.all("label")) == 2
    assert page.all("html", lang="en")


def test_no_colour_stays_in_the_charts_that_the_theme_could_not_change(page: Elements) -> None:
    for tag, attributes in page.found:
        if tag in ("path", "use", "line", "text", "g", "rect", "circle"):
            style = " ".join(filter(None, (attributes.get(k) for k in ("style", "stroke", "fill"))))
            assert not re.search(r"#[0-9a-f]{6}", style), (tag, style)


def test_a_hundred_images_stay_below_ten_megabytes(tmp_path: Path, fake) -> None:
    store, verdict = fake(pairs=[f"pair-{i:03d}" for i in range(100)], size=(48, 48)).write(tmp_path)
    rendered = html.render(summarise(store, verdict), store)
    assert len(rendered) < 3e6
    # The pictures are bounded by their number and size: noise of the largest side, which nothing compresses well.
    from deploy_robust import keyed
    from deploy_robust.report.strips import MOST, MOST_DEFECTS
    from deploy_robust.report.thumbnails import LARGEST_SIDE, data_uri

    noise = keyed.generator(0, "noise").integers(0, 255, (LARGEST_SIDE, LARGEST_SIDE, 3)).astype("uint8")
    assert (5 * MOST + MOST_DEFECTS) * len(data_uri(noise)) < 10e6 - len(rendered)


@pytest.mark.parametrize("pairs", [[], ["only"]])
def test_small_runs_have_a_page_too(tmp_path: Path, fake, pairs: list[str]) -> None:
    store, verdict = fake(pairs=pairs).write(tmp_path)
    found = Elements(html.render(summarise(store, verdict), store).decode())
    assert len(found.all("article")) == 13 * len(pairs)


def test_the_difference_is_amplified_and_stops_at_white(tmp_path: Path, fake) -> None:
    store, verdict = fake(pairs=["only"]).write(tmp_path)
    row = summarise(store, verdict).cases[0]
    a, b = (decode(store.png(sha256)).astype(int) for sha256 in (row.attacked_output, row.clean_output))
    expected = (4 * abs(a - b)).clip(max=255)
    assert (amplified_difference(a.astype("uint8"), b.astype("uint8")) == expected).all()
