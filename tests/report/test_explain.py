"""Where a FAIL comes from, on runs that were built to fail for one reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from deploy_robust.gate.records import Case, Status
from deploy_robust.report.summary import summarise

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("train", "export", "check", "demo", "doctor")


def explained(summary, requirement: str, status: Status = Status.FAIL):
    rows = [row for row in summary.outcomes if row.requirement == requirement and row.status is status]
    assert rows, f"no {requirement} with {status}"
    assert rows[0].explanation is not None
    return rows[0].explanation


def test_a_source_that_fails_alone_is_named_and_precision_is_not(tmp_path: Path, fake) -> None:
    run = fake(attacked=lambda role, attack, level: 10.0 if attack == "pgd-lmse" else 24.0)
    summary = summarise(*run.write(tmp_path))
    found = explained(summary, "do-no-harm")
    assert found.cause == "source"
    assert "the source alone fails it (\u22128.00\u00a0dB" in found.short
    assert "no difference that shows" in found.sentences[-1]
    assert found.command == "deploy-robust train --adversarial"
    assert any(line.startswith("do-no-harm at 1, 2 and 4/255: the source alone fails it") for line in summary.because)


def test_precision_that_breaks_a_sound_source_is_named_with_its_paired_interval(tmp_path: Path, fake) -> None:
    run = fake(attacked=lambda role, attack, level: 24.0 if role == "source" else 15.0)
    found = explained(summarise(*run.write(tmp_path)), "do-no-harm")
    assert found.cause == "precision"
    assert "the source alone holds it (6.00\u00a0dB" in found.short
    assert "int8 in onnxruntime 1.31 adds \u22129.00\u00a0dB [\u22129.00, \u22129.00]" in found.short
    assert found.command.startswith("deploy-robust export --precision")


def test_a_literal_twin_tells_precision_from_runtime(tmp_path: Path, fake) -> None:
    psnr = {"source": 24.0, "literal": 23.5, "engine": 15.0}
    run = fake(clean={"engine": 25.0, "source": 25.2, "literal": 25.1}, attacked=lambda role, attack, level: psnr[role])
    found = explained(summarise(*run.write(tmp_path)), "do-no-harm")
    assert found.cause == "runtime"
    assert "onnxruntime 1.31 adds \u22128.50\u00a0dB" in found.short
    assert any("int8 precision changes it by \u22120.50\u00a0dB" in sentence for sentence in found.sentences)


def test_an_attack_that_did_not_transfer_is_said_to_have_shown_nothing(tmp_path: Path, fake) -> None:
    run = fake(attacked=lambda role, attack, level: 24.0 if role == "engine" else 19.0)
    found = explained(summarise(*run.write(tmp_path)), "transfer-gap")
    assert found.cause == "transfer"
    assert "did not transfer" in found.short


def test_an_engine_weaker_than_its_source_is_not_called_a_missing_transfer(tmp_path: Path, fake) -> None:
    run = fake(attacked=lambda role, attack, level: 24.0 if role == "source" else 19.0)
    assert explained(summarise(*run.write(tmp_path)), "transfer-gap").cause == "precision"


def test_an_fp32_engine_blames_its_runtime(tmp_path: Path, fake) -> None:
    run = fake(attacked=lambda role, attack, level: 24.0 if role == "source" else 15.0, plan={"precision": "fp32"})
    assert explained(summarise(*run.write(tmp_path)), "do-no-harm").cause == "runtime"


def test_a_surrogate_is_no_ground_for_attribution(tmp_path: Path, fake) -> None:
    run = fake(
        attacked=lambda role, attack, level: 10.0, plan={"source": {"name": "prenet-small", "kind": "surrogate"}}
    )
    found = explained(summarise(*run.write(tmp_path)), "do-no-harm")
    assert found.cause == "surrogate"
    assert "prenet-small" in found.sentences[0]


def test_parity_says_on_how_many_images_the_engine_is_off(tmp_path: Path, fake) -> None:
    found = explained(summarise(*fake(conversion=20.0).write(tmp_path)), "parity")
    assert found.cause == "parity"
    assert "on 24 of 24 clean images" in found.short


def test_defects_are_counted_by_kind(tmp_path: Path, fake) -> None:
    run = fake(defects=(Case("pair-01"), Case("pair-02", "uniform", 4.0)))
    found = explained(summarise(*run.write(tmp_path)), "engine-defect")
    assert found.sentences == ("The engine misbehaved 2 times (nan), 1 of them under attack.",)


def test_an_interval_across_the_bound_says_how_many_scenes_would_decide(tmp_path: Path, fake) -> None:
    # The mean lies 0.01 dB above the bound and the scenes wobble by 0.03 dB around it.
    run = fake(pairs=[f"pair-{i}" for i in range(10)], attacked=lambda role, attack, level: 18.01)
    summary = summarise(*run.write(tmp_path))
    found = explained(summary, "do-no-harm", Status.INCONCLUSIVE)
    assert found.cause == "evidence"
    wanted = int(re.search(r"--limit (\d+)$", found.command).group(1))  # type: ignore[union-attr]
    row = next(row for row in summary.outcomes if row.requirement == "do-no-harm")
    half = (row.high - row.low) / 2
    assert wanted == pytest.approx(10 * (half / row.margin) ** 2, abs=1)


def test_every_command_that_is_advised_exists(tmp_path: Path, fake) -> None:
    runs = [
        fake(attacked=lambda role, attack, level: 10.0),
        fake(attacked=lambda role, attack, level: 24.0 if role == "source" else 15.0),
        fake(attacked=lambda role, attack, level: 24.0 if role == "engine" else 15.0, conversion=10.0),
        fake(pairs=["only"], defects=(Case("only"),)),
    ]
    for index, run in enumerate(runs):
        summary = summarise(*run.write(tmp_path / str(index)))
        assert summary.next_steps
        for command, purpose in summary.next_steps:
            program, verb, *_ = command.split()
            assert (program, verb in COMMANDS, bool(purpose)) == ("deploy-robust", True, True)
