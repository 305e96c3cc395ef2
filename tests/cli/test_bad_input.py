"""What a user can hand over wrongly ends with exit code 2 and one line that says what, where and what to do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file

from deploy_robust.app.networks import SourceRequest, open_source
from deploy_robust.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


# -- engines


def two_inputs(cli: Any, path: Path) -> None:
    inputs = [cli.value("a", cli.ANY), cli.value("b", cli.ANY)]
    cli.graph(path, [helper.make_node("Add", ["a", "b"], ["y"])], inputs)


def no_input(cli: Any, path: Path) -> None:
    image = np.zeros((1, 3, 32, 32), np.float32)
    cli.graph(path, [helper.make_node("Identity", ["x"], ["y"])], [], [cli.value("y", (1, 3, 32, 32))], x=image)


def four_channels(cli: Any, path: Path) -> None:
    shape = ("n", 4, "h", "w")
    cli.graph(path, [helper.make_node("Identity", ["x"], ["y"])], [cli.value("x", shape)], [cli.value("y", shape)])


def whole_numbers(cli: Any, path: Path) -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)]
    cli.graph(path, nodes, outputs=[cli.value("y", cli.ANY, TensorProto.INT64)])


def truncated(cli: Any, path: Path) -> None:
    weight = np.ones((3, 3, 3, 3), np.float32)
    cli.graph(path, [helper.make_node("Conv", ["x", "k"], ["y"], pads=[1] * 4)], k=weight)
    path.write_bytes(path.read_bytes()[:-200])


def other_bytes(cli: Any, path: Path) -> None:
    cli.identity(path)
    path.with_name(path.name + ".json").write_text(MANIFEST)


MANIFEST = """{"schema": 1, "artefact": {"file": "net.onnx", "sha256": "00"}, "precision": "fp32", "exporter": "fp32",
"versions": {}, "io": {}, "model": null, "source": null, "graph": null, "calibration": null, "parity": []}"""


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (None, [], ["there is no engine at net.onnx"]),
        (truncated, [], ["net.onnx", "truncated"]),
        (two_inputs, [], ["one image input", "has 2", "a: float", "b: float"]),
        (no_input, [], ["one image input", "has 0"]),
        (four_channels, [], ["4 channels", "RGB"]),
        (whole_numbers, [], ["int64", "float or uint8"]),
        (other_bytes, [], ["net.onnx.json", "other bytes", "export it again"]),
        ("identity", ["--provider", "NpuProvider"], ["'NpuProvider'", "CPUExecutionProvider"]),
        pytest.param(
            "identity",
            ["--device", "cuda"],
            ["CUDAExecutionProvider", "--device cpu"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
        ("identity", ["--dtype", "uint8"], ["float32", "--dtype"]),
        ("identity", ["--runtime", "onxruntime"], ["'onxruntime'", "did you mean 'onnxruntime'?"]),
        ("identity", ["--runtime", "aotinductor"], ["native code", "--vouch"]),
        ("identity", ["--compute", "bf16"], ["ONNX Runtime", "'bf16'", "--precision"]),
        ("identity", ["--precision", "int8"], ["--precision int8", "net.onnx", "fp32"]),
        ("identity", ["--runtime", "literal", "--arithmetic", "fused"], ["literal engine", "--runtime onnxruntime"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_engines_that_cannot_be_checked(
    cli: Any, tmp_path: Path, make: str | Callable[[Any, Path], None] | None, options: list[str], words: list[str]
) -> None:
    engine = tmp_path / "net.onnx"
    if make == "identity":
        cli.identity(engine)
    elif callable(make):
        make(cli, engine)
    complaint = cli.check(Path("net.onnx"), *options, cwd=tmp_path).complaint()
    assert [word for word in words if word not in complaint] == []
    assert not (tmp_path / "runs").exists()


# -- policies


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("minimum_scenes", "minimum_scense", ["line 3", "'minimum_scense'", "did you mean 'minimum_scenes'?"]),
        ("schema = 1", "schema =", ["not TOML", "line 1"]),
        ("fp32 = { conversion = 90 }", "fp32 = 90", ["line 14", "fp32", "table"]),
        ('"clean-gain"\nat', '"clean-gian"\nat', ["line 24", "did you mean 'clean-gain'?"]),
        ("[2]", "[300]", ["line 6", "epsilons", "300"]),
        ("[2]", "[0]", ["line 6", "epsilons", "0"]),
        ("[2]", "[0.5]", ["line 6", "fractional", "0.5"]),
    ],
)
def test_policies_that_cannot_be_read(cli: Any, tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in cli.QUICK
    (tmp_path / "mine.toml").write_text(cli.QUICK.replace(old, new))
    complaint = cli.check(Path("net.onnx"), "--policy", "mine.toml", cwd=tmp_path).complaint()
    assert [word for word in ["mine.toml", *words] if word not in complaint] == []


def test_attack_settings_that_a_policy_misnames(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(cli.QUICK.replace("iterations = 2", "iteratons = 2"))
    engine = cli.identity(tmp_path / "net.onnx")
    complaint = cli.check(engine, "--policy", "mine.toml", cwd=tmp_path).complaint()
    assert "mine.toml, line 8" in complaint
    assert "did you mean 'iterations'?" in complaint


def test_a_policy_that_is_not_there(cli: Any, tmp_path: Path) -> None:
    complaint = cli.check(Path("net.onnx"), "--policy", "strict", cwd=tmp_path).complaint()
    assert "strict" in complaint
    assert "default" in complaint


# -- images


def add(folder: Path, name: str, image: Image.Image, kind: str = "rain") -> Path:
    image.save(folder / kind / name)
    return folder / kind / name


def sixteen_bits(cli: Any, folder: Path) -> None:
    image = Image.fromarray(np.full((32, 40), 40_000, np.uint16))
    add(folder, "a.png", image)


def grey(cli: Any, folder: Path) -> None:
    add(folder, "a.png", Image.new("L", (40, 32)))


def cmyk(cli: Any, folder: Path) -> None:
    (folder / "rain" / "a.png").unlink()
    add(folder, "a.jpg", Image.new("CMYK", (40, 32)))


def corrupt_header(cli: Any, folder: Path) -> None:
    (folder / "rain" / "a.png").write_bytes(b"no picture at all")


def corrupt_pixels(cli: Any, folder: Path) -> None:
    path = folder / "rain" / "a.png"
    path.write_bytes(path.read_bytes()[:-400])


def of_two_sizes(cli: Any, folder: Path) -> None:
    add(folder, "a.png", Image.new("RGB", (48, 48)))


def alone(cli: Any, folder: Path) -> None:
    (folder / "norain" / "a.png").rename(folder / "norain" / "b.png")


def small(cli: Any, folder: Path) -> None:
    for kind in ("rain", "norain"):
        add(folder, "a.png", Image.new("RGB", (31, 40)), kind)


def nothing_in_it(cli: Any, folder: Path) -> None:
    shutil.rmtree(folder)
    for kind in ("rain", "norain"):
        (folder / kind).mkdir(parents=True)


def no_layout(cli: Any, folder: Path) -> None:
    (folder / "norain").rename(folder / "truth")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nothing_in_it, ["rain", "holds no image", ".png"]),
        (no_layout, ["no ground truth", "--unpaired"]),
        (alone, ["a.png", "no partner", "norain"]),
        (sixteen_bits, ["a.png", "8 bits"]),
        (grey, ["a.png", "grey", "8-bit RGB"]),
        (cmyk, ["a.jpg", "CMYK", "8-bit RGB"]),
        (corrupt_header, ["a.png", "damaged"]),
        (of_two_sizes, ["a.png", "48x48", "32x40"]),
        (small, ["a.png", "40x31", "32 pixels"]),
    ],
)
def test_pairs_that_cannot_be_used(
    cli: Any, tmp_path: Path, spoil: Callable[[Any, Path], None], words: list[str]
) -> None:
    folder = cli.write_pairs(tmp_path / "pairs", {"a": (cli.picture(1), cli.picture(2))})
    spoil(cli, folder)
    complaint = cli.check(Path("net.onnx"), data=Path("pairs"), cwd=tmp_path).complaint()
    assert [word for word in words if word not in complaint] == []


def test_an_image_that_is_damaged_behind_its_header(cli: Any, tmp_path: Path) -> None:
    folder = cli.write_pairs(tmp_path / "pairs", {"a": (cli.picture(1), cli.picture(2))})
    corrupt_pixels(cli, folder)
    complaint = cli.check(cli.identity(tmp_path / "net.onnx"), data=folder, cwd=tmp_path).complaint()
    assert "a.png" in complaint
    assert "damaged" in complaint


def test_a_data_folder_that_is_not_there(cli: Any, tmp_path: Path) -> None:
    complaint = cli.check(Path("net.onnx"), data=Path("nowhere"), cwd=tmp_path).complaint()
    assert "nowhere: no such folder" in complaint


# -- outputs


def test_an_output_that_is_a_file_and_not_a_folder(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    engine = cli.identity(tmp_path / "net.onnx")
    complaint = cli.check(engine, "--out", "run", cwd=tmp_path).complaint()
    assert "run" in complaint
    assert "--out" in complaint
    assert (tmp_path / "run").read_text() == "mine"


def test_an_export_folder_that_is_a_file(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    complaint = cli.run("export", "--model", "prenet-small", "--out", "out", cwd=tmp_path).complaint()
    assert "out" in complaint
    assert (tmp_path / "out").read_text() == "mine"


# -- weights


class Bomb:
    """What a hostile weights file holds."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("exploded"),)  # type: ignore[return-value]


def zipped_bomb(path: Path) -> None:
    torch.save({"weight": Bomb()}, path)


def test_a_pickle_bomb_is_refused_and_not_run(cli: Any, tmp_path: Path) -> None:
    zipped_bomb(tmp_path / "net.pth")
    engine = cli.identity(tmp_path / "net.onnx")
    complaint = cli.check(engine, "--source", "net.pth", "--model", "prenet", cwd=tmp_path).complaint()
    assert "net.pth is not a plain state dict and was not run" in complaint
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_bomb_would_have_exploded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above shows nothing."""
    monkeypatch.chdir(tmp_path)
    zipped_bomb(tmp_path / "net.pth")
    torch.load(tmp_path / "net.pth", weights_only=False)
    assert (tmp_path / "exploded").exists()


NETS = """
import torch

def plain():
    return torch.nn.Conv2d(3, 3, 3, padding=1)

def broken():
    raise ValueError("no such\\nlayer")

def number():
    return 3

def shrinking():
    return torch.nn.Conv2d(3, 3, 3)
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with networks and weights of many kinds, which is also where we are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets.py").write_text(NETS)
    save_file({"other": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    whole = (tmp_path / "foreign.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--source", "cut.safetensors"], ["cut.safetensors", "whole safetensors file"]),
        (["--source-checkpoint", "foreign.safetensors"], ["--source-checkpoint", "--source package.module:factory"]),
        (["--source", "nets:broken"], ["nets:broken", "ValueError", "no such"]),
    ],
)
def test_sources_that_cannot_be_attacked(cli: Any, sources: Path, options: list[str], words: list[str]) -> None:
    engine = cli.identity(sources / "net.onnx")
    complaint = cli.check(engine, *options, cwd=sources).complaint()
    assert [word for word in words if word not in complaint] == []


@pytest.mark.parametrize(
    ("what", "checkpoint", "words"),
    [
        ("foreign.safetensors", None, ["foreign.safetensors", "no deploy-robust metadata"]),
        ("nowhere.safetensors", None, ["nowhere.safetensors", "not a file"]),
        ("nowhere", None, ["nowhere", "prenet-small"]),
        ("net.pth", None, ["net.pth", "--model"]),
        ("nets:number", None, ["nets:number", "int", "torch.nn.Module"]),
        ("nets:absent", None, ["nets:absent", "AttributeError"]),
        ("nest:plain", None, ["nest:plain", "ModuleNotFoundError"]),
        ("nets:shrinking", None, ["nets:shrinking", "same size"]),
        ("nets:plain", Path("foreign.safetensors"), ["foreign.safetensors", "do not fit", "weight"]),
    ],
)
def test_more_sources_that_cannot_be_attacked_without_a_process(
    sources: Path, what: str, checkpoint: Path | None, words: list[str]
) -> None:
    sys.modules.pop("nets", None)
    with pytest.raises((UsageError, CheckpointError)) as caught:
        open_source(SourceRequest(what, checkpoint))
    assert [word for word in words if word not in str(caught.value)] == []
