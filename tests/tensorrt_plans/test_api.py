"""Every name of TensorRT that we use exists in 10.13, 10.16 and 11.4, and so does every name that our fake offers."""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deploy_robust

PACKAGE = Path(deploy_robust.__file__).parent
SOURCES = [
    *sorted((PACKAGE / "tensorrt").glob("*.py")),
    *sorted((PACKAGE / "engines").glob("tensorrt*.py")),
    *sorted((PACKAGE / "exporters").glob("tensorrt*.py")),
]

OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "profile": "IOptimizationProfile",
    "timing_cache": "ITimingCache",
    "runtime": "Runtime",
    "cuda_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}
"""Names that stand for objects of TensorRT in our sources, a leading underscore aside, and their classes."""

NOT_TENSORRT = {
    # Our own Profile goes by the same name where shapes are compared.
    *{("profile", name) for name in ("least", "best", "most", "takes", "distance", "static", "dims")}
}

STUBS = {
    "nvinfer": """void* createInferBuilder_INTERNAL(void* l, int v) { return 0; }
        void* createInferRuntime_INTERNAL(void* l, int v) { return 0; }
        void* createInferRefitter_INTERNAL(void* e, void* l, int v) { return 0; }
        void* getPluginRegistry(void) { return 0; }
        void* getBuilderPluginRegistry(int c) { return 0; }""",
    "nvonnxparser": """void* createNvOnnxParser_INTERNAL(void* n, void* l, int v) { return 0; }
        void* createNvOnnxParserRefitter_INTERNAL(void* n, void* l, int v) { return 0; }
        int getNvOnnxParserVersion(void) { return 0; }""",
    "nvinfer_plugin": "_Bool initLibNvInferPlugins(void* l, const char* n) { return 0; }",
}
"""What the bindings need of the three libraries: functions that make nothing."""


def chain(node: ast.AST) -> list[str]:
    """``trt.A.B`` as ["trt", "A", "B"]; empty where it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def uses() -> tuple[set[tuple[str, ...]], set[tuple[str, str]], list[ast.Call]]:
    """Chains that begin with ``trt``, members of objects, and calls of these."""
    chains, members, calls = set(), set(), []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = chain(node) if isinstance(node, ast.Attribute) else []
            if names[:1] == ["trt"]:
                chains.add(tuple(names[1:]))
            for owner, member in itertools.pairwise(names):
                if owner.lstrip("_") in OBJECTS and (owner, member) not in NOT_TENSORRT:
                    members.add((OBJECTS[owner.lstrip("_")], member))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = chain(node.func)[-2:-1]
                if owner and owner[0].lstrip("_") in OBJECTS and (owner[0], node.func.attr) not in NOT_TENSORRT:
                    calls.append((OBJECTS[owner[0].lstrip("_")], node))
    return chains, members, calls


@pytest.fixture(scope="module", params=["10.13.3.9", "10.16.1.11", "11.4.0.106"])
def facts(request, api):
    return api.recorded(request.param)


def exists(facts: dict, names: tuple[str, ...]) -> bool:
    """Whether ``tensorrt.A.B`` exists, as far as it is a name of the library."""
    if names[0] == "__version__":
        return True
    if names[0] not in facts["names"]:
        return False
    for depth in range(1, len(names)):
        owner, member = ".".join(names[:depth]), names[depth]
        known = facts["enums"].get(owner, []) + list(facts["classes"].get(owner, {}))
        if member not in known and owner != "DataType":
            return False
    return True


def test_the_walk_finds_what_we_use():
    chains, members, calls = uses()
    assert {("BuilderFlag", "TF32"), ("Runtime",), ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")} <= chains
    assert ("IExecutionContext", "execute_async_v3") in members
    assert ("ICudaEngine", "get_tensor_profile_shape") in members
    assert ("Builder", "build_serialized_network") in members
    assert len(chains) > 20
    assert len(members) > 40
    assert len(calls) > 30


def test_every_name_exists(facts):
    chains, members, _ = uses()
    assert not [names for names in chains if not exists(facts, names)]
    assert not [(kind, name) for kind, name in members if name not in facts["classes"][kind]]


def test_names_that_eleven_removed_would_be_found(api):
    facts = api.recorded("11.4.0.106")
    assert not exists(facts, ("BuilderFlag", "FP16"))
    assert not exists(facts, ("IInt8EntropyCalibrator2",))
    assert "int8_calibrator" not in facts["classes"]["IBuilderConfig"]
    assert "device_memory_size" not in facts["classes"]["ICudaEngine"]
    assert exists(api.recorded("10.13.3.9"), ("BuilderFlag", "FP16"))


def test_every_call_fits_an_overload(facts):
    for kind, call in uses()[2]:
        overloads = facts["classes"][kind][call.func.attr]
        given = len(call.args), {keyword.arg for keyword in call.keywords}
        assert any(fits(overload, *given) for overload in overloads), (kind, call.func.attr, given, overloads)


def fits(overload: str, positional: int, keywords: set[str]) -> bool:
    parameters = [part.strip() for part in overload.split(",") if part.strip()]
    names = [part.rstrip("=") for part in parameters]
    needed = {part for part in parameters if not part.endswith("=")}
    return (
        positional <= len(names) and keywords <= set(names[positional:]) and needed <= {*names[:positional], *keywords}
    )


def test_flags_are_written_by_name_and_never_as_numbers():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
                assert not isinstance(node.right, ast.Constant), f"{path.name}:{node.lineno}"


def test_nothing_imports_tensorrt_at_module_level():
    code = "import sys; import deploy_robust.engines.tensorrt, deploy_robust.exporters.tensorrt_build"
    code += "; sys.exit(any(name.split('.')[0] in ('tensorrt', 'polygraphy') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_our_fake_offers_nothing_that_the_bindings_do_not(fakes, facts):
    trt = fakes.make(facts["version"])
    checked = 0
    for name in vars(trt):
        if name.startswith("_") or name in ("fails", "calls"):
            continue
        assert name in facts["names"], name
        kind = getattr(trt, name)
        if issubclass(kind, enum.Enum):
            if name != "DataType":
                assert set(kind.__members__) <= set(facts["enums"][name]), name
            checked += 1
            continue
        for member, value in vars(kind).items():
            if member.startswith("_") or member == "Severity":
                continue
            known = facts["classes"][name]
            assert member in known, f"{name}.{member}"
            checked += 1
            if inspect.isfunction(value):
                parameters = list(inspect.signature(value).parameters)[1:]
                assert parameters in [
                    [part.strip().rstrip("=") for part in overload.split(",") if part.strip()]
                    for overload in known[member]
                ] or (name, member) == ("ICudaEngine", "create_execution_context"), f"{name}.{member}"
            else:
                assert known[member] in (["rw"], ["ro"]), f"{name}.{member}"
    assert checked > 60


def test_the_facts_are_what_the_real_bindings_say(facts, api, tmp_path):
    """Downloads the bindings, puts them on libraries that make nothing, and asks again; needs network and gcc."""
    bindings, libraries = real_bindings(facts["version"], tmp_path)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(bindings)}
    script = Path(__file__).with_name("api_facts.py")
    said = subprocess.run(
        [sys.executable, str(script), "tensorrt_bindings"],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout == (api.API / f"{facts['version']}.json").read_text(encoding="utf-8")
    asked = subprocess.run(
        [sys.executable, "-c", REAL], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr


REAL = """
import sys, tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
import torch
from deploy_robust.errors import EnvironmentProblem
from deploy_robust.exporters.tensorrt_progress import monitor_of
from deploy_robust.tensorrt.calls import LOG, logger_of
from deploy_robust.tensorrt.dtypes import TORCH, tensorrt_dtype, torch_dtype
from deploy_robust.tensorrt.loading import created, load
from deploy_robust.tensorrt.plan import deserialise

trt = load()
for name, dtype in TORCH.items():
    assert torch_dtype(getattr(trt.DataType, name)) == dtype
    assert tensorrt_dtype(trt, dtype) == getattr(trt.DataType, name)
logger = logger_of(trt)
logger.log(trt.ILogger.Severity.ERROR, "heard")
assert LOG.reasons() == ("heard",)
said = []
monitor = monitor_of(trt, said.append)
monitor.phase_start("a", None, 2)
assert monitor.step_complete("a", 0) is True
assert said == ["a", "a: 1 of 2"]
for name, arguments in (("Builder", (logger,)), ("Runtime", (logger,))):
    try:
        created(name, getattr(trt, name), *arguments)
    except EnvironmentProblem as error:
        assert f"makes no {name}" in str(error)
    else:
        raise AssertionError(name)
try:
    deserialise(trt, b"plan")
except EnvironmentProblem as error:
    assert "driver" in str(error)
"""


def real_bindings(version: str, folder: Path) -> tuple[Path, Path]:
    """Folders of the real bindings, and of libraries that let them import."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here: the real bindings need libraries to stand on")
    if sys.platform != "linux":
        pytest.skip("the libraries are built for Linux only")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    download += ["--disable-pip-version-check", "--retries", "0", "--timeout", "10", "--dest", str(folder)]
    got = subprocess.run(
        [*download, f"tensorrt-cu13-bindings=={version}"], capture_output=True, text=True, check=False, timeout=300
    )
    if got.returncode != 0:
        lines = got.stderr.strip().splitlines() or ["no reason given"]
        pytest.skip(f"the bindings of TensorRT {version} cannot be downloaded here: {lines[-1]}")
    (wheel,) = folder.glob("*.whl")
    bindings, libraries = folder / "bindings", folder / "libraries"
    shutil.unpack_archive(wheel, bindings, "zip")
    libraries.mkdir()
    for stem, code in STUBS.items():
        name = f"lib{stem}.so.{version.split('.')[0]}"
        (folder / f"{stem}.c").write_text(code)
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(libraries / name)]
        subprocess.run([*command, str(folder / f"{stem}.c")], check=True, timeout=120)
    return bindings, libraries
