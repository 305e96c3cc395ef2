"""The models command and the pages of the networks say what the registry says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy_robust.app.model_pages import model_page
from deploy_robust.cli.main import cli
from deploy_robust.models.registry import MODELS

PAGES = Path(__file__).parents[2] / "docs" / "models"


@pytest.mark.parametrize("name", MODELS.names())
def test_the_committed_page_is_the_generated_one(name: str) -> None:
    if not PAGES.is_dir():
        pytest.skip("the documentation is not beside the tests")
    assert (PAGES / f"{name}.md").read_text(encoding="utf-8") == model_page(name), (
        "run: python -m deploy_robust.app.model_pages docs/models"
    )


def test_every_page_belongs_to_a_network() -> None:
    if not PAGES.is_dir():
        pytest.skip("the documentation is not beside the tests")
    assert {page.stem for page in PAGES.glob("*.md")} == set(MODELS.names())


def test_the_command_prints_every_preset_as_json() -> None:
    answer = CliRunner().invoke(cli, ["models", "umrl", "--json"], standalone_mode=False)
    assert answer.return_value == 0
    rows = json.loads(answer.output)
    assert [row["preset"] for row in rows] == MODELS.presets("umrl")
    official = rows[0]
    assert (official["parameters"], official["published_parameters"]) == (981_994, 984_356)
    assert (official["size_rule"], official["native_range"]) == ("multiples of 16", [-1.0, 1.0])
    assert official["official_licence"] == "MIT"


def test_the_table_names_presets_in_full_and_unknown_networks_are_refused() -> None:
    answer = CliRunner().invoke(cli, ["models", "umrl"], standalone_mode=False)
    assert "batch-statistics" in answer.output
    assert "arXiv:1906.11129" in answer.output
    answer = CliRunner().invoke(cli, ["models", "umlr"], standalone_mode=False)
    assert "did you mean 'umrl'" in str(answer.exception)
