"""The command as its users run it: a process of its own, in a folder of its own, with tiny images and networks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

QUICK = """\
schema = 1
name = "quick"
minimum_scenes = 2

[threat]
levels = [2]

[attacks.pgd-lmse]
iterations = 2
[attacks.uniform]

[parity]
minimum_pairs = 2
fp32 = { conversion = 90 }

[[requirement]]
name = "engine-defect"
quantity = "defects"
statistic = "max"
at_most = 0

[[requirement]]
name = "clean-gain"
quantity = "clean-gain"
at_least = -100
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def complaint(self) -> str:
        """The one line of a command that found nothing to judge."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.err.startswith("deploy-robust: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "internal error" not in self.err
        assert not self.out
        return self.err


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The checkout or the wheel under test must be found from any folder."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    before = extra.get("PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    return {
        **kept,
        **extra,
        "PYTHONPATH": path if before is None else before + os.pathsep + path,
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }


def start(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, **options: Any) -> Any:
    """Starts ``deploy-robust``."""
    command = [sys.executable, "-m", "deploy_robust", *arguments]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=_environment(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, timeout: float = 240) -> Ended:
    """Runs ``deploy-robust`` to its end, for `timeout` seconds at most."""
    process = start(*arguments, cwd=cwd, environment=environment)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def check(
    engine: Path, *arguments: str, cwd: Path, data: Path | None = None, environment: Mapping[str, str] | None = None
) -> Ended:
    """Checks an engine under the quick policy on two embedded scenes, or on a folder."""
    (cwd / "quick.toml").write_text(QUICK)
    pairs = ("--size", "32", "--limit", "2") if data is None else ("--data", str(data))
    given = [] if "--policy" in arguments else ["--policy", "quick.toml"]
    return run(
        "check", "--engine", str(engine), *pairs, *given, "--threads", "1", *arguments, cwd=cwd, environment=environment
    )


def picture(seed: int, size: tuple[int, int] = (32, 40), brightest: int = 200) -> NDArray[np.uint8]:
    """A smooth picture with some noise, (H, W, 3), whose largest value is `brightest`, in a patch."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / (5 + c) + seed) * np.cos(y / (7 - c)) for c in range(3)], axis=-1)
    noise = np.random.default_rng(seed).normal(0, 0.1, waves.shape)
    image = ((waves + noise) * 0.3 + 0.5) * 160
    image[:8, :8] = 255
    return image.clip(0, brightest).astype(np.uint8)


def write_pairs(folder: Path, pairs: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> Path:
    """A folder in the layout ``rain`` and ``norain``; names without suffix."""
    for name, images in pairs.items():
        for kind, image in zip(("rain", "norain"), images, strict=True):
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


def value(name: str, shape: Sequence[Any], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


ANY = ("n", 3, "h", "w")


def graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    **weights: NDArray[Any],
) -> Path:
    """An ONNX file; by default from x to y, both float (n, 3, h, w)."""
    model = helper.make_model(
        helper.make_graph(
            list(nodes),
            "g",
            [value("x", ANY)] if inputs is None else list(inputs),
            [value("y", ANY)] if outputs is None else list(outputs),
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save_model(model, str(path))
    return path


def identity(path: Path) -> Path:
    return graph(path, [helper.make_node("Identity", ["x"], ["y"])])


def blur(path: Path) -> Path:
    """A mean over 3 x 3 pixels within each channel."""
    weight = np.full((3, 1, 3, 3), 1 / 9, np.float32)
    return graph(path, [helper.make_node("Conv", ["x", "k"], ["y"], pads=[1] * 4, group=3)], k=weight)


def constant(path: Path) -> Path:
    """Grey, whatever comes."""
    nodes = [helper.make_node("Mul", ["x", "nothing"], ["z"]), helper.make_node("Add", ["z", "grey"], ["y"])]
    return graph(path, nodes, nothing=np.float32(0), grey=np.float32(0.5))


def poisoned(path: Path, poisons: Sequence[tuple[float, float]]) -> Path:
    """0.9 x, but a value all over for images whose brightest pixel lies above a threshold; the first fit counts."""
    nodes = [
        helper.make_node("Mul", ["x", "most"], ["y0"]),
        helper.make_node("ReduceMax", ["x"], ["peak"], axes=[1, 2, 3]),
    ]
    weights: dict[str, NDArray[Any]] = {"most": np.float32(0.9)}
    for i, (threshold, poison) in enumerate(reversed(poisons)):
        nodes += [
            helper.make_node("Greater", ["peak", f"t{i}"], [f"c{i}"]),
            helper.make_node("Where", [f"c{i}", f"p{i}", f"y{i}"], [f"y{i + 1}"]),
        ]
        weights |= {f"t{i}": np.float32(threshold), f"p{i}": np.float32(poison)}
    nodes.append(helper.make_node("Identity", [f"y{len(poisons)}"], ["y"]))
    return graph(path, nodes, **weights)


def shrinking(path: Path, threshold: float) -> Path:
    """0.9 x, without the last row for images whose brightest pixel lies above a threshold."""
    nodes = [
        helper.make_node("Mul", ["x", "most"], ["z"]),
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Greater", ["peak", "threshold"], ["c"]),
        helper.make_node("Where", ["c", "less", "all"], ["end"]),
        helper.make_node("Slice", ["z", "zero", "end", "axis"], ["y"]),
    ]
    return graph(
        path,
        nodes,
        outputs=[value("y", ("n", 3, "h2", "w"))],
        most=np.float32(0.9),
        threshold=np.float32(threshold),
        less=np.array([-1]),
        all=np.array([2**31]),
        zero=np.array([0]),
        axis=np.array([2]),
    )


@pytest.fixture(scope="session")
def cli() -> Any:
    """The functions above."""
    functions: tuple[Callable[..., Any], ...] = (
        *(start, run, check, picture, write_pairs),
        *(value, graph, identity, blur, constant, poisoned, shrinking),
    )
    return SimpleNamespace(
        **{function.__name__: function for function in functions}, QUICK=QUICK, ANY=ANY, helper=helper
    )


@pytest.fixture(scope="session")
def engines(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network as FP32 and INT8, with its weights and manifests."""
    folder = tmp_path_factory.mktemp("engines")
    ended = cli.run(
        "export", "--checkpoint", "prenet-small", "--precision", "fp32", "--precision", "int8", "--out", ".", cwd=folder
    )
    assert ended.code == 0, ended.err
    return folder


MODULE = '''
"""An engine of somebody else's, in a package of its own: it does to images what its file says."""
import json, os, signal
from pathlib import Path
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.engine import Capabilities, Health

class Engine:
    capabilities = Capabilities(runtime="made up 1.0", provider="imagination", precision="fp32")

    def __init__(self, script):
        self.script = script

    def run(self, batch, out=None):
        peak = round(batch.max().item() * 255)
        for low, high, what in self.script:
            if low <= peak <= high:
                getattr(self, what)()
                if what == "dtype":
                    return (batch * 255).int()
        return batch * 0.9

    def hang(self):
        Path("hanging").write_text(str(os.getpid()))
        signal.pause()

    def hang_unless_cured(self):
        if "CURED" not in os.environ:
            self.hang()

    def abort(self):
        os.abort()

    def dtype(self):
        pass

    def fault(self):
        raise RuntimeError("out of imagination")

    def close(self):
        pass

class Lame(Engine):
    @property
    def capabilities(self):
        raise KeyError("what can it do")

class Kind:
    name = "made-up"
    suffixes = (".madeup",)

    def open(self, path, options):
        script = json.loads(path.read_text())
        if script == "fault":
            raise RuntimeError("cannot imagine")
        return (Lame if script == "lame" else Engine)(script), options.io or IODescription()

    def health(self):
        return [Health("made-up", True, "1.0")]

KIND = Kind()
'''


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which that package is installed."""
    site = tmp_path_factory.mktemp("site")
    (site / "madeup.py").write_text(MODULE)
    info = site / "madeup-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: madeup\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[deploy_robust.engines]\nmade-up = madeup:KIND\n")
    return {"PYTHONPATH": str(site)}


@pytest.fixture(scope="session")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs named after how they react to thresholds of 201 and 230: ``bright`` lies above both, ``dark`` below both,
    and attacked versions of ``middle``, and only these, between them.
    """
    peaks = {"bright": 255, "dark": 120, "middle": 200}
    pairs = {name: (picture(i, brightest=peaks[name]),) * 2 for i, name in enumerate(peaks)}
    return write_pairs(tmp_path_factory.mktemp("pairs"), pairs)
