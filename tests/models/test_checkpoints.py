"""Weights files: roundtrip, damage, and files that are not what they say."""

from __future__ import annotations

import errno
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from deploy_robust.artefact import files
from deploy_robust.errors import CheckpointError, InputError, UsageError
from deploy_robust.models.checkpoints import load_any, load_checkpoint, load_official, save_checkpoint, weights_sha256
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from deploy_robust.models.derainer import Derainer

RECORD = {"command": "deploy-robust train", "curve": [{"step": 1, "psnr": 20.5}], "seed": 3}


@pytest.fixture
def model() -> Derainer:
    torch.manual_seed(0)
    return MODELS.create("prenet", "tiny", width=3).eval()


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A state dict in the authors' layout, of a PReNet of random weights, wrapped and prefixed as some trainers do."""
    path = tmp_path / "official.pth"
    torch.save({"epoch": 7, "state_dict": {f"module.{k}": v for k, v in _official_state().items()}}, path)
    return path


def _official_state() -> dict[str, torch.Tensor]:
    layers = {"conv0.0": (6, 32), "conv.0": (32, 3), **{f"conv_{gate}.0": (64, 32) for gate in "ifgo"}}
    layers |= {f"res_conv{k}.{j}": (32, 32) for k in range(1, 6) for j in (0, 2)}
    random = torch.Generator().manual_seed(0)
    state = {}
    for layer, (inputs, outputs) in layers.items():
        state[f"{layer}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=random)
        state[f"{layer}.bias"] = torch.zeros(outputs)
    return state


def test_weights_arguments_and_record_come_back(model: Derainer, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "net.safetensors"
    saved = save_checkpoint(path, model, RECORD)
    loaded, info = load_checkpoint(path)
    assert info == saved
    assert dict(info.record) == RECORD
    assert info.identity.arguments == {"width": 3, "iterations": 2}
    assert not loaded.training
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


def test_the_same_weights_make_the_same_bytes_and_leave_nothing_else(model: Derainer, tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_checkpoint(tmp_path / name, model, RECORD)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failed_write_keeps_the_old_file(model: Derainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, model, RECORD)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(InputError, match="No space"):
        save_checkpoint(path, model, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_is_of_the_weights_and_of_nothing_else(model: Derainer, tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path / "a.safetensors", model, {}).weights_sha256
    second = save_checkpoint(tmp_path / "b.safetensors", model, RECORD).weights_sha256
    state = model.state_dict()
    assert first == second == weights_sha256(dict(reversed(state.items())))
    state["decoder.bias"] = state["decoder.bias"] + 1e-6
    assert weights_sha256(state) != first


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(model: Derainer, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, model, RECORD)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="net"):
        load_checkpoint(path)


def test_a_flipped_bit_is_refused(model: Derainer, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, model, RECORD)
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_foreign_safetensors_are_refused(model: Derainer, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file(model.state_dict(), path)
    with pytest.raises(CheckpointError, match="metadata"):
        load_checkpoint(path)
    save_file(model.state_dict(), path, metadata={"deploy_robust": json.dumps({"format": "weights 9"})})
    with pytest.raises(CheckpointError, match="another format"):
        load_checkpoint(path)


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_code_in_a_pickle_is_refused_and_never_run(tmp_path: Path, writer: str) -> None:
    path, trace = tmp_path / "bomb.pth", tmp_path / "exploded"
    content = {"state_dict": {**_official_state(), "bomb": _Bomb(trace)}}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="not run"):
        load_official("prenet", "official", path)
    assert not trace.exists()


def test_official_layout_is_unwrapped_and_mapped(official: Path) -> None:
    model, info = load_official("prenet", "official", official)
    assert torch.equal(model.state_dict()["blocks.4.conv2.weight"], _official_state()["res_conv5.2.weight"])
    assert info.official
    assert info.record == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("conv_f.0.bias"), r"missing: forget_gate\.bias"),
        (lambda s: s.update({"conv_z.0.bias": torch.zeros(3)}), r"unexpected: conv_z\.0\.bias"),
        (lambda s: s.update({"conv.0.bias": torch.zeros(4)}), r"of another shape: decoder\.bias \(4,\) for \(3,\)"),
        (lambda s: s.update({"conv.0.bias": torch.full((3,), torch.nan)}), r"not finite: decoder\.bias"),
        (lambda s: s.update({"note": "hello"}), "more than tensors"),
        (lambda s: s.clear(), "no state dict"),
    ],
)
def test_whatever_does_not_fit_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    state: dict[str, Any] = _official_state()
    damage(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        load_official("prenet", "official", tmp_path / "x.pth")


@pytest.mark.parametrize("keep", [0, 10, 5000])
def test_a_truncated_pickle_is_refused(official: Path, keep: int) -> None:
    official.write_bytes(official.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a plain state dict"):
        load_official("prenet", "official", official)


def test_names_and_paths_that_lead_nowhere_say_so(model: Derainer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a file nor shipped"):
        load_any("prenet-huge")
    with pytest.raises(CheckpointError, match="is not a file"):
        load_any(tmp_path / "nothing.safetensors")
    save_checkpoint(tmp_path / "net.safetensors", model, {})
    with pytest.raises(UsageError, match="not of rcdnet"):
        load_any(tmp_path / "net.safetensors", name="rcdnet")
    with pytest.raises(UsageError, match="suffix"):
        save_checkpoint(tmp_path / "net.pth", model, {})
