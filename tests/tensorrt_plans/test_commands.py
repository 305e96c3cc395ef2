"""Commands as processes, with our small TensorRT in place of the real one: plans that do not belong here end with 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy_robust.exporters.tensorrt_build import BuildSettings, build_plan
from deploy_robust.tensorrt.profiles import Profile

HERE = Path(__file__).parent
VERSION, CARD = "11.4.0.106", "Fake 9000|9.0|570.1"

MODULE = """\
import importlib.util
import os

spec = importlib.util.spec_from_file_location("fake", os.environ["FAKE"])
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)
made = fake.make(os.environ["FAKE_VERSION"])
made.fails.update(filter(None, os.environ.get("FAKE_FAILS", "").split(",")))
globals().update({name: value for name, value in vars(made).items() if name == "__version__" or name[:1] != "_"})

from deploy_robust.tensorrt import device

device.open_device = lambda name: fake.HostDevice(fake.Gpu(*os.environ["FAKE_CARD"].split("|")))
"""

POLICY = """\
schema = 1
name = "plan"
minimum_scenes = 2

[threat]
levels = [2]

[attacks.corners]

[parity]
minimum_pairs = 2
fp32 = { conversion = 90 }

[[requirement]]
name = "engine-defect"
quantity = "defects"
statistic = "max"
at_most = 0
"""


@pytest.fixture
def folder(fakes, graph, tmp_path):
    """A plan with its record, the graph it came from, two pairs, and a folder that holds the module ``tensorrt``."""
    trt, device = fakes.make(VERSION), fakes.HostDevice()
    settings = BuildSettings(profiles=(Profile.parse("1x3x32x32,1x3x40x48,4x3x40x48"),))
    build_plan(trt, graph(), tmp_path / "g.plan", settings, device)
    draw = np.random.default_rng(1)
    for kind in ("rain", "norain"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for name in ("a", "b"):
            image = draw.integers(0, 255, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "pairs" / kind / f"{name}.png")
    (tmp_path / "plan.toml").write_text(POLICY)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tensorrt.py").write_text(MODULE)
    return tmp_path


def run(folder, *arguments, version=VERSION, card=CARD, fails="") -> tuple[int, str]:
    path = os.pathsep.join([str(folder / "modules"), *(entry or str(Path.cwd()) for entry in sys.path)])
    told = {"FAKE": str(HERE / "fake.py"), "FAKE_VERSION": version, "FAKE_CARD": card, "FAKE_FAILS": fails}
    environment = os.environ | told | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "deploy_robust", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=580
    )
    said = " ".join((ended.stdout + ended.stderr).split())
    assert "Traceback" not in said, said
    return ended.returncode, said


def check(folder, *more, **how) -> tuple[int, str]:
    fixed = ("--engine", "g.plan", "--source", "g.onnx", "--data", "pairs", "--policy", "plan.toml", "--out", "run")
    return run(folder, "check", *fixed, *more, **how)


def test_a_plan_is_checked_by_the_same_command_as_every_engine(folder):
    code, said = check(folder)
    assert code == 0, said
    assert "PASS" in said


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            {"version": "10.13.3.9"},
            ["g.plan was built by TensorRT 11.4.0.106 and this is 10.13.3.9", "build it again here from g.onnx"],
        ),
        (
            {"card": "Other 5000|8.6|570.1"},
            ["g.plan was built for Fake 9000 (compute capability 9.0) and this is Other 5000", "on the other GPU"],
        ),
        ({"card": "Fake 9001|9.0|570.1"}, ["g.plan was tuned on Fake 9000 and this is Fake 9001", "g.onnx"]),
    ],
)
def test_a_plan_of_another_tensorrt_or_gpu(folder, how, words):
    code, said = check(folder, **how)
    assert code == 2, said
    assert all(word in said for word in words), said


def test_a_plan_with_another_hash(folder):
    with (folder / "g.plan").open("ab") as plan:
        plan.write(b"x")
    code, said = check(folder)
    assert code == 2, said
    assert "g.plan is not the file that was vouched for: expected sha256" in said
    assert "copy or export it again" in said


def test_images_outside_the_profile(folder):
    for path in (folder / "pairs").rglob("*.png"):
        Image.fromarray(np.zeros((56, 48, 3), np.uint8)).save(path)
    code, said = check(folder)
    assert code == 2, said
    assert "the plan takes shapes from 1x3x32x32 to 4x3x40x48" in said
    assert "1x3x56x48" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("", ["the timing cache", "is stale", "driver 1.0 (here 570.1)", "remove it, or name another file"]),
        ("parse_from_file", ["TensorRT does not take prenet-tiny-fp32.onnx", "Wiggle 'wiggle_7'", "no importer"]),
    ],
)
def test_exports_that_tensorrt_cannot_build(folder, fails, words):
    import torch

    from deploy_robust.models.checkpoints import save_checkpoint
    from deploy_robust.models.registry import MODELS
    from deploy_robust.tensorrt.device import Gpu
    from deploy_robust.tensorrt.timing_cache import write_cache

    torch.manual_seed(0)
    save_checkpoint(folder / "tiny.safetensors", MODELS.create("prenet", "tiny").eval(), {})
    write_cache(folder / "times", b"old", VERSION, Gpu("Fake 9000", "9.0", "1.0"))
    fixed = ("--checkpoint", "tiny.safetensors", "--target", "tensorrt", "--precision", "fp32", "--out", "out")
    shapes = ("--profile", "1x32x32,1x64x64,1x400x500")
    cache = () if fails else ("--timing-cache", "times")
    code, said = run(folder, "export", *fixed, *shapes, *cache, fails=fails)
    assert code == 2, said
    assert all(word in said for word in words), said
    assert said.startswith("deploy-robust: "), said
    assert not list((folder / "out").glob("*.plan*"))
