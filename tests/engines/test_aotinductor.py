"""AOTInductor packages: vouched for before their code is mapped, and right at any size afterwards."""

from __future__ import annotations

import shutil
import zipfile

import pytest
import torch
import torch.nn.functional as F

from deploy_robust.app.registries import engine_kind_for
from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.io_description import IODescription, SizeRule
from deploy_robust.artefact.manifest import FileRecord, Manifest
from deploy_robust.engine import Engine, EngineOptions
from deploy_robust.engines.aotinductor import KIND
from deploy_robust.errors import ArtefactError, EnvironmentProblem, InputError, UsageError
from deploy_robust.restorer import Restorer

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="compiling a package needs g++")

WEIGHT = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.1


def rainy(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """One convolution, compiled."""
    if shutil.which("g++") is None:
        pytest.skip("compiling a package needs g++")
    from torch._inductor import aoti_compile_and_package
    from torch.export import Dim

    network = torch.nn.Conv2d(3, 3, 3, padding=1, bias=False).eval().requires_grad_(False)
    network.weight.copy_(WEIGHT)
    sizes = {0: Dim("n", min=1), 2: Dim("h", min=32), 3: Dim("w", min=32)}
    program = torch.export.export(network, (torch.zeros(2, 3, 64, 96),), dynamic_shapes=(sizes,))
    path = tmp_path_factory.mktemp("package") / "conv.pt2"
    aoti_compile_and_package(program, package_path=str(path))
    Manifest(FileRecord.of(path), "fp32", "by hand", {}, IODescription()).write(path.parent)
    return path


def alone(package, folder, name="alone.pt2"):
    """The package without its manifest."""
    return shutil.copyfile(package, folder / name)


@needs_compiler
def test_a_package_answers_as_torch_at_any_size_and_batch(package):
    assert engine_kind_for(package) is KIND
    engine = Restorer(*KIND.open(package, EngineOptions(threads=1)))
    assert isinstance(engine.engine, Engine)
    assert (engine.capabilities.precision, engine.capabilities.arithmetic) == ("fp32", "fused")
    for shape in ((1, 3, 33, 47), (4, 3, 64, 40)):
        x = rainy(*shape)
        torch.testing.assert_close(engine(x), F.conv2d(x, WEIGHT, padding=1), atol=1e-5, rtol=0)
    x = rainy(1, 3, 40, 40)
    out = torch.empty_like(x)
    assert engine.engine.run(x, out=out) is out
    turned = x.transpose(2, 3)
    assert torch.equal(engine.engine.run(turned), engine.engine.run(turned.contiguous()))


@needs_compiler
def test_what_a_package_would_misread_is_refused(package):
    """Given doubles, the compiled code reads their bytes as floats; it takes any number of channels, too."""
    engine, _ = KIND.open(package, EngineOptions(io=IODescription(size=SizeRule(multiple=8))))
    for wrong in (rainy(1, 3, 40, 40).double(), rainy(1, 4, 40, 40)):
        with pytest.raises(UsageError, match="the graph takes"):
            engine.run(wrong)
    with pytest.raises(UsageError, match="multiples of 8"):
        engine.run(rainy(1, 3, 40, 44))
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.run(rainy(1, 3, 40, 40))


@needs_compiler
def test_without_a_manifest_the_user_must_vouch_for_the_very_bytes(package, tmp_path):
    path = alone(package, tmp_path)
    with pytest.raises(ArtefactError, match=f"--vouch {sha256_of(path)}"):
        KIND.open(path, EngineOptions())
    with pytest.raises(ArtefactError, match="is not the file that was vouched for"):
        KIND.open(path, EngineOptions(vouched="0" * 64))
    engine, _ = KIND.open(path, EngineOptions(vouched=sha256_of(path).upper()))
    assert engine.capabilities.precision == "unknown"


def test_no_code_of_a_file_with_another_hash_is_touched(tmp_path, monkeypatch):
    """The manifest names other bytes; the loader must never be reached."""
    import torch._inductor

    def reached(*_args, **_kwargs):
        raise AssertionError("the package was loaded")

    monkeypatch.setattr(torch._inductor, "aoti_load_package", reached)
    path = tmp_path / "a.pt2"
    path.write_bytes(b"one")
    Manifest(FileRecord.of(path), "fp32", "by hand", {}, IODescription()).write(tmp_path)
    path.write_bytes(b"two")
    with pytest.raises(ArtefactError, match="belongs to other bytes"):
        KIND.open(path, EngineOptions())
    with pytest.raises(InputError):
        KIND.open(tmp_path / "none.pt2", EngineOptions(vouched="0" * 64))


def test_packages_for_other_machines_are_refused_before_their_code_is_mapped(tmp_path):
    def packed(facts: str | None) -> EngineOptions:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/archive_version", "0")
            if facts is not None:
                archive.writestr("a/data/aotinductor/model/x.wrapper_metadata.json", facts)
        return EngineOptions(vouched=sha256_of(path))

    path = tmp_path / "a.pt2"
    for facts, words in (
        (None, "no AOTInductor package"),
        ("{", "no AOTInductor package"),
        ('{"AOTI_DEVICE_KEY": "cuda"}', "compiled for cuda"),
        ('{"AOTI_DEVICE_KEY": "cpu", "AOTI_CPU_ISA": "AVX2 AMX"}', "AMX|cannot load"),
        ('{"AOTI_DEVICE_KEY": "cpu"}', "torch cannot load it"),
    ):
        with pytest.raises(ArtefactError, match=words):
            KIND.open(path, packed(facts))
    path.write_bytes(b"no archive")
    with pytest.raises(ArtefactError, match="no AOTInductor package"):
        KIND.open(path, EngineOptions(vouched=sha256_of(path)))


def test_options_without_a_use_are_refused(tmp_path):
    for options, words in (
        (EngineOptions(provider="cpu"), "provider 'cpu'"),
        (EngineOptions(compute="bf16"), "compute 'bf16'"),
        (EngineOptions(arithmetic="literal"), "fused already"),
    ):
        with pytest.raises(UsageError, match=words):
            KIND.open(tmp_path / "a.pt2", options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_on_a_machine_without_gpu_is_an_error(tmp_path):
    path = tmp_path / "a.pt2"
    path.write_bytes(b"x")
    with pytest.raises(EnvironmentProblem, match="--device cpu"):
        KIND.open(path, EngineOptions(device="cuda", vouched=sha256_of(path)))
