"""``deploy-robust train-vision`` as a user runs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from deploy_robust.cli.main import main
from deploy_robust.models.vision.registry import load_vision
from deploy_robust.training.state import CURRENT

if TYPE_CHECKING:
    from pathlib import Path

TINY = [
    *("--preset", "tiny", "--scenes", "2", "--held-out", "1", "--size", "32", "--size", "40", "--crop", "32"),
    *("--batch", "1", "--steps", "4", "--validate-every", "2", "--threads", "1", "--out", "net.safetensors"),
]


def run(*arguments: str) -> int:
    """Runs the command in this process: starting one costs seconds."""
    with pytest.raises(SystemExit) as stop:
        main(["train-vision", *arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize("name", ["segmenter", "detector"])
def test_a_training_in_slices_ends_with_weights_and_their_record(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(name, *TINY, "--max-minutes", "0") == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "net.safetensors").exists()
    assert run(name, *TINY) == 0
    assert "finished: step 4 of 4" in capsys.readouterr().out
    network, info = load_vision(tmp_path / "net.safetensors")
    assert network.identity.name == name
    assert [source["split"] for source in info.record["data"]["sources"]] == ["train", "train"]
    assert info.record["validation"]["source"]["split"] == "validation"
    assert [point["step"] for point in info.record["curve"]] == [2, 4]
    assert ("miou" if name == "segmenter" else "ap50") in info.record["curve"][-1]["clean"]


def test_what_was_found_of_an_earlier_call_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run("detector", *TINY, "--max-minutes", "0") == 0
    assert "going on from step 0 of 4 in net.state" in capsys.readouterr().err
    state = tmp_path / "net.state" / CURRENT
    state.write_bytes(state.read_bytes()[:-100])
    assert run("detector", *TINY, "--max-minutes", "0") == 0
    ended = capsys.readouterr()
    assert f"{CURRENT} is truncated or damaged" in ended.err
    assert f"log: net.state{os.sep}log.jsonl" in ended.out


def test_a_network_can_learn_from_clear_scenes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("segmenter", *TINY, "--left-rain", "0", "--noise", "0", "--light", "0") == 0
    clear = load_vision(tmp_path / "net.safetensors")[1]
    assert clear.record["plan"]["seeing"] == {"rain": 0.0, "noise": 0.0, "light": 0.0}
    assert run("segmenter", *TINY, "--restart") == 0
    assert load_vision(tmp_path / "net.safetensors")[1].weights_sha256 != clear.weights_sha256


def test_what_cannot_be_trained_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("segmenter", *TINY[:-1], "net.pth") == 2
    assert "weights are written as .safetensors" in capsys.readouterr().err
    assert run("segmenter", *TINY, "--preset", "huge") == 2
    assert "no preset 'huge'" in capsys.readouterr().err
