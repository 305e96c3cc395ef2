"""``deploy-robust train`` as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy_robust.cli.main import main
from deploy_robust.models.checkpoints import load_checkpoint
from deploy_robust.training.state import CURRENT

COMMAND = [sys.executable, "-c", "from deploy_robust.cli.main import main; main()", "train"]
TINY = [
    *("--preset", "tiny", "--data", "scenes", "--pairs", "2", "--held-out", "1", "--size", "32", "--crop", "24"),
    *("--batch", "1", "--steps", "4", "--validate-every", "2", "--threads", "1", "--out", "net.safetensors"),
]


@pytest.fixture
def environment() -> dict[str, str]:
    """The checkout or the wheel under test must be found from any folder."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def _here(*options: str) -> int:
    """Runs the command in this process: starting one costs seconds."""
    with pytest.raises(SystemExit) as stop:
        main(["train", *TINY, *options])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_a_training_in_slices_ends_with_weights_and_their_record(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _here("--max-minutes", "0") == 0
    assert "out of time: step 0 of 4" in capsys.readouterr().out
    assert not (tmp_path / "net.safetensors").exists()
    second = subprocess.run([*COMMAND, *TINY], env=environment, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    assert "going on from step 0 of 4" in second.stderr
    model, info = load_checkpoint(tmp_path / "net.safetensors")
    assert str(model.identity) == "prenet/tiny"
    record = info.record
    assert record["command"].startswith("deploy-robust train --preset tiny")
    assert record["plan"]["seed"] == 0
    assert record["steps_done"] == 4
    assert len(record["data"]["sha256"]) == 64
    assert [point["step"] for point in record["curve"]] == [2, 4]
    assert record["validation"]["sources"][0]["split"] == "validation"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "prent"], "did you mean 'prenet'"),
        (["--loss", "l7"], "known are"),
        (["--out", "net.pth"], "change --out"),
        (["--data", "nowhere"], "nowhere"),
        (["--adversarial", "--adv-start", "zero"], "start at uniform or corners"),
        (["--crop", "48"], "smaller than the crop"),
        (["--device", "cuda:99"], "--device cpu"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _here(*options) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="signals of this kind are POSIX's")
def test_an_interrupt_saves_the_state_and_exits_with_130(tmp_path: Path, environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*COMMAND, *TINY, "--steps", "100000"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "held-out PSNR" in line:
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert (tmp_path / "net.state" / CURRENT).is_file()
    assert not (tmp_path / "net.safetensors").exists()
