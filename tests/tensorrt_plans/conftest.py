"""Our own small TensorRT in place of the real one, and graphs to build from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy_robust.tensorrt import device as devices

HERE = Path(__file__).parent


def _beside(name: str):
    """A module of this folder, which is no package."""
    full = f"tensorrt_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, HERE / f"{name}.py")
        sys.modules[full] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture(scope="session")
def fakes():
    """The module `fake`."""
    return _beside("fake")


@pytest.fixture(scope="session")
def api():
    """The module `api_facts`."""
    return _beside("api_facts")


@pytest.fixture(params=["10.13.3.9", "11.4.0.106"])
def trt(request, fakes, monkeypatch):
    """A fake TensorRT that ``import tensorrt`` finds."""
    module = fakes.make(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def device(fakes, monkeypatch):
    """A fake GPU, opened in place of any other."""
    made = fakes.HostDevice()
    monkeypatch.setattr(devices, "open_device", lambda name: made)
    return made


WEIGHT = np.random.default_rng(7).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)


@pytest.fixture
def weight():
    return WEIGHT


@pytest.fixture
def graph(tmp_path):
    """Writes a graph of one convolution: NCHW float32 in and out."""

    def write(shape=("n", 3, "h", "w"), kind=TensorProto.FLOAT, name="g.onnx"):
        value = [helper.make_tensor_value_info(each, kind, list(shape)) for each in ("x", "y")]
        weight = WEIGHT.astype(np.float16) if kind == TensorProto.FLOAT16 else WEIGHT
        node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
        made = helper.make_graph([node], "g", value[:1], value[1:], [numpy_helper.from_array(weight, "w")])
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save_model(model, str(tmp_path / name))
        return tmp_path / name

    return write
