"""Whatever a file holds, its reader gives a value or one line: a bounded search for content that does otherwise."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from deploy_robust.app.reopening import from_note
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.manifest import FileRecord, Manifest, ModelRecord, ParityFigure, read_manifest
from deploy_robust.artefact.onnx_graph import GraphFacts, Port
from deploy_robust.attacks.boxes import Boxes
from deploy_robust.boundary import MalformedError, parse_json, validated
from deploy_robust.cli.io_options import _read as read_io_file
from deploy_robust.downstream.adapter import read_adapter
from deploy_robust.errors import DeployRobustError
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.registration import Registration
from deploy_robust.gate.rows import COLUMNS, from_row
from deploy_robust.gate.run_spec import RUN_SPEC
from deploy_robust.models.checkpoints import FORMAT, load_checkpoint
from deploy_robust.models.weights_file import weights_sha256
from deploy_robust.stored.index import SetIndex
from deploy_robust.tensorrt.build_record import read_record
from deploy_robust.tensorrt.device import Gpu
from deploy_robust.tensorrt.timing_cache import key_of, read_cache
from deploy_robust.training.state import read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHA = "0" * 64
FILE = {"file": "net.onnx", "sha256": SHA}
GPU = Gpu("GPU", "8.9", "570")
IO = IODescription().to_dict()
WEIGHTS = {"weight": torch.zeros(3)}
PORT = Port("x", "float", (None, 3, None, None))

MANIFEST = Manifest(
    FileRecord("net.onnx", SHA),
    "int8",
    "int8",
    {"onnx": "1"},
    IODescription(),
    model=ModelRecord("prenet", "tiny", {"width": 4}),
    source=FileRecord("net.safetensors", SHA),
    parity=(ParityFigure("torch", (64, 64), 2, "identical", 0.0),),
).to_dict()
RECORD = {
    "schema": 1, "plan": FILE, "onnx": FILE, "precision": "fp32", "tensorrt": "10.13", "gpu": GPU.to_dict(),
    "flags": ["TF32"], "hardware": "NONE", "optimisation": 3, "workspace": None,
    "profiles": [{"least": [1, 3, 64, 64], "best": [1, 3, 64, 64], "most": [1, 3, 64, 64]}], "timing_cache": None,
}  # fmt: skip
INDEX = {
    "schema": 1, "created_by": "x", "plan": SHA, "seed": 0, "levels": [2.0],
    "source": {"name": "net", "weights_sha256": SHA}, "engine": None, "literal": None,
    "origin": {"name": "scenes"}, "made": {},
    "attacks": {"uniform": {"policy_name": "uniform", "access": "nothing", "against": None, "network": None,
                            "settings": {"draws": 1}}},
    "pairs": [{"id": "a", "scene": "a", "size": [32, 32], "input": "inputs/a.png", "pixels": SHA, "truth": None,
               "labels": {"file": None, "class_names": ["road"], "boxes": [["person", 0, 0, 4, 4]]}}],
    "cases": [{"pair": "a", "attack": "uniform", "level": 2.0, "input": "inputs/b.png", "pixels": SHA, "largest": 2,
               "rms": 1.0, "share": 1.0, "in_ball": True, "facts": {"queries": 3.0, "best": "inf"}}],
    "files": {"inputs/a.png": SHA, "inputs/b.png": SHA},
}  # fmt: skip
NETWORK = {"model": "net.onnx", "task": "segmentation", "classes": ["road", "sky"], "output": {"form": "scores"},
           "input": {"multiple": 8, "size": [64, 64], "range": [0, 1]}, "map": {"sky": "ignore"}}  # fmt: skip
CHECKPOINT = {"format": FORMAT, "model": "prenet", "preset": "tiny", "arguments": {"width": 4, "iterations": 2},
              "record": {}, "weights_sha256": weights_sha256(WEIGHTS)}  # fmt: skip
PLAN = {
    "command": "check", "engine": {"file": "net.onnx", "sha256": SHA, "io": IO}, "source": {"name": "net"},
    "pairs": {"name": "scenes", "count": 1, "paired": True, "identity": {}}, "policy": {}, "precision": "fp32",
    "references": ["fidelity"], "adapted": [], "terms": {"attacks": [], "minimum_scenes": 1, "caps": []}, "seed": 0,
    "threads": 1, "batch": {"pairs": 1, "rows": None}, "notes": [], "versions": {"torch": "2"},
}  # fmt: skip
REQUEST = {
    "engine": {"path": "../net.onnx", "kind": None, "device": "cpu", "provider": None, "threads": 1},
    "source": {"what": "net.safetensors", "checkpoint": None, "model": None, "preset": None, "device": "cpu",
               "crafting": {"dtype": "fp32"}, "files": ["what"]},
    "pairs": {"what": "scenes", "limit": 2, "size": [32, 32], "crop": None, "labels": None}, "timeout": 300.0,
    "downstream": [{"file": "a.toml"}, {"name": "scene-segmenter"}],
}  # fmt: skip
REGISTRATION = {"population": "set", "source": "x", "order": ["a"], "attempt": 0, "tests": 1, "suite": "x",
                "basis": SHA, "digest": SHA, "grown": [[1, SHA]]}  # fmt: skip
ROW = dict(zip(COLUMNS.split(", "), ("a", "clean", 0.0, "a", "engine", "8bit", '{"psnr": "inf"}', None, None, SHA, ""),
               strict=True))  # fmt: skip
POLICY = 'schema = 1\n[threat]\nlevels = [1]\n[attacks.uniform]\npairs = 2\n[parity]\nfp32 = { conversion = 90 }\n' \
         '[[requirement]]\nname = "a"\nquantity = "clean-gain"\nat_least = { fp32 = 3 }\n'  # fmt: skip


def file_reader(name: str, read: Callable[[Path], Any]) -> Callable[[Path, bytes], Any]:
    def reader(folder: Path, content: bytes) -> Any:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return reader


def manifest(path: Path) -> Any:
    path.with_name("net.onnx").write_bytes(b"")
    return read_manifest(path.with_name("net.onnx"))


def weights(folder: Path, content: bytes) -> Any:
    (folder / "net.safetensors").write_bytes(
        save(WEIGHTS, metadata={"deploy_robust": content.decode("utf-8", errors="replace")})
    )
    return load_checkpoint(folder / "net.safetensors")


READERS: dict[str, tuple[bytes, Callable[[Path, bytes], Any]]] = {
    "manifest": (json.dumps(MANIFEST).encode(), file_reader("net.onnx.json", manifest)),
    "metadata": (
        json.dumps(IO).encode(),
        lambda _, content: GraphFacts(
            PORT, PORT, "fp32", 17, {"deploy_robust.io": content.decode(errors="replace")}
        ).described(),
    ),
    "io-file": (json.dumps(IO).encode(), file_reader("io.json", read_io_file)),
    "build record": (
        json.dumps(RECORD).encode(),
        file_reader("net.plan.build.json", lambda path: read_record(path.with_name("net.plan"))),
    ),
    "timing cache": (
        b"deploy-robust timing cache 1\n" + json.dumps(key_of("10.13", GPU)).encode() + b"\ntimes",
        file_reader("cache", lambda path: read_cache(path, "10.13", GPU)),
    ),
    "set": (json.dumps(INDEX).encode(), lambda _, content: SetIndex.from_bytes(content, "set.json")),
    "description": (json.dumps(NETWORK).encode(), file_reader("net.json", read_adapter)),
    "weights": (json.dumps(CHECKPOINT).encode(), weights),
    "boxes": (b'{"a": [[0, 0, 4, 4]], "*": []}', file_reader("boxes.json", lambda path: Boxes.read(str(path)))),
    "plan": (json.dumps(PLAN).encode(), lambda _, content: validated(RUN_SPEC, parse_json(content))),
    "request": (json.dumps(REQUEST).encode(), lambda folder, content: from_note(parse_json(content), PLAN, folder)),
    "registration": (
        json.dumps(REGISTRATION).encode(),
        lambda _, content: Registration.from_dict(parse_json(content)),
    ),
    "row": (json.dumps(ROW).encode(), lambda _, content: row(parse_json(content))),
    "policy": (POLICY.encode(), file_reader("policy.toml", load_policy)),
    "state": (
        b"deploy-robust training state 1\n" + bytes(64),
        file_reader("state.bin", lambda p: read_state(p.parent)),
    ),
}


def row(data: Any) -> Any:
    names = COLUMNS.split(", ")
    if not isinstance(data, dict) or set(data) != set(names):
        raise MalformedError("no row")
    return from_row(tuple(data[name] for name in names))


EXTREME = st.sampled_from(
    [float("nan"), float("inf"), 10**400, 2**63, -(2**63), 1e300, -1, 0, "", "\x00", "../x", "\ud800"]
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | EXTREME,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from places(data[key], (*place, key))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with one value changed or taken out, or with bytes changed; or other bytes."""
    try:
        data = json.loads(whole)
    except ValueError:
        data = None
    kind = draw(st.integers(0, 3 if data is None else 9))
    if kind == 0:
        return draw(st.binary(max_size=64))
    if kind == 1:
        return whole[: draw(st.integers(0, len(whole)))]
    if kind <= 3:
        at = draw(st.integers(0, len(whole) - 1))
        return whole[:at] + draw(st.binary(max_size=4)) + whole[at + draw(st.integers(0, 4)) :]
    place = draw(st.sampled_from(list(places(data))))
    value = draw(VALUE)
    if not place:
        return json.dumps(value).encode()
    inner = data
    for step in place[:-1]:
        inner = inner[step]
    if kind == 4:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return json.dumps(data).encode()


@pytest.mark.parametrize("name", READERS)
def test_a_reader_gives_a_value_or_one_line(name: str, tmp_path: Path) -> None:
    whole, read = READERS[name]
    if name not in ("weights", "state", "manifest"):  # those need weights and bytes that fit
        assert read(tmp_path, whole) is not None

    most = int(os.environ.get("DEPLOY_ROBUST_FUZZ", "80"))

    @settings(
        max_examples=most, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(damaged(whole))
    def search(content: bytes) -> None:
        for left in tmp_path.iterdir():
            left.unlink()
        try:
            read(tmp_path, content)
        except (DeployRobustError, MalformedError) as error:
            told = str(error)
            assert told
            assert "\n" not in told
            assert len(told) < 1500

    search()
