"""Exporters and the export use case, end to end on a tiny network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deploy_robust.app.export import export
from deploy_robust.app.exporting import verifier
from deploy_robust.app.exporting.images import parity_sizes
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.artefact.describe import describe
from deploy_robust.artefact.exporter import Calibration, ExportRequest, ExportSettings
from deploy_robust.artefact.io_description import IODescription, SizeRule
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.errors import ExportError, ImageError, UsageError
from deploy_robust.exporters.int8_ort import EXPORTER as INT8
from deploy_robust.exporters.onnx_fp32 import EXPORTER as FP32
from deploy_robust.gate.parity import Bound, parity, worst
from deploy_robust.models.checkpoints import save_checkpoint
from deploy_robust.models.registry import MODELS
from deploy_robust.restorer import Restorer

STEPS_OF_4 = {"deploy_robust.io": '{"size": {"multiple": 4, "fixed": null}}'}
UNSEEN = ((97, 61), (80, 112), (321, 481))


class Halves(nn.Module):
    """Half resolution and back, with halves of the image joined again: sizes must be multiples of 4."""

    size_rule = SizeRule(multiple=4)

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, x):
        half = x.shape[2] // 2
        joined = torch.cat([x[:, :, :half], x[:, :, half:]], 2)
        return joined + 0.2 * self.up(torch.relu(self.down(joined)))


class FrozenHalf(Halves):
    """The classical mistake: the size of the example becomes part of the graph."""

    def forward(self, x):
        return super().forward(x) * (1.0 if x.shape[2] == 64 else 0.9)


def images(count: int = 3):
    draw = np.random.default_rng(2)
    for index in range(count):
        ramp = np.linspace(0, 200, 72 + 8 * index)[:, None, None] + np.zeros((1, 90, 3))
        yield (ramp + draw.integers(0, 55, ramp.shape)).clip(0, 255).astype(np.uint8)


def request(path, module, **more) -> ExportRequest:
    return ExportRequest(path=path, module=module, size_rule=module.size_rule, verify=lambda _: (), **more)


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    torch.manual_seed(1)
    module = Halves()
    path = tmp_path_factory.mktemp("halves") / "fp32.onnx"
    FP32.export(request(path, module, metadata=STEPS_OF_4))
    return module, path


ENDS = ExportSettings(quantise_ends=True)
"""For a network of two convolutions, which are its first and its last."""


def restorer(path) -> Restorer:
    return Restorer(*KIND.open(path, EngineOptions(threads=1)))


def test_fp32_agrees_with_torch_at_sizes_and_batches_that_were_not_the_examples(halves):
    module, path = halves
    reference = Restorer(TorchEngine(module), IODescription(size=module.size_rule))
    batches = [torch.rand(n, 3, *size) for n, size in zip((1, 3, 2), UNSEEN, strict=True)]
    figures = list(parity(reference, restorer(path), batches))
    assert len(figures) == 6
    low = worst(figures)
    assert low.psnr_db >= 90
    assert low.max_abs <= 1e-5
    assert describe(path).size == SizeRule(multiple=4)


def test_fp32_graph_is_plain(halves, tmp_path):
    module, path = halves
    model = onnx.load(str(path))
    assert [i.name for i in model.graph.input] == ["rainy"]
    assert [o.name for o in model.graph.output] == ["derained"]
    content = path.read_bytes()
    for trace in (b".py", b"/root", b"/home", b"/tmp", b"site-packages", b"stack_trace"):
        assert trace not in content
    again = tmp_path / "again.onnx"
    FP32.export(request(again, module, metadata=STEPS_OF_4))
    assert again.read_bytes() == content


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_int8_follows_fp32_and_is_reproducible(halves, tmp_path, method):
    module, graph = halves
    written = []
    for name in ("a.onnx", "b.onnx"):
        path = tmp_path / name
        INT8.export(
            request(
                path, module, graph=graph, calibration=Calibration(images, method), metadata=STEPS_OF_4, settings=ENDS
            )
        )
        written.append(path.read_bytes())
    assert written[0] == written[1]
    tests = [torch.from_numpy(i.transpose(2, 0, 1)[None].copy()).float() / 255 for i in images()]
    engine = restorer(path)
    assert engine.capabilities.precision == "int8"
    assert worst(list(parity(restorer(graph), engine, tests))).psnr_db >= 30


def test_calibration_methods_differ(halves, tmp_path):
    module, graph = halves
    made = set()
    for method in ("minmax", "percentile", "entropy"):
        path = tmp_path / f"{method}.onnx"
        INT8.export(request(path, module, graph=graph, calibration=Calibration(images, method), settings=ENDS))
        made.add(path.read_bytes())
    assert len(made) == 3


def test_int8_that_would_quantise_nothing_is_refused(halves, tmp_path):
    module, graph = halves
    with pytest.raises(ExportError, match=r"fp32\.onnx has no convolution left to quantise.*--quantise-ends"):
        INT8.export(request(tmp_path / "a.onnx", module, graph=graph, calibration=Calibration(images)))
    assert not list(tmp_path.iterdir())


def test_int8_without_images_is_an_error_and_leaves_nothing(halves, tmp_path):
    module, graph = halves
    with pytest.raises(ExportError, match="no calibration images"):
        INT8.export(request(tmp_path / "a.onnx", module, graph=graph, calibration=Calibration(lambda: iter(()))))
    assert not list(tmp_path.iterdir())


def test_a_frozen_size_that_shows_in_the_graph_is_refused(tmp_path):
    class Frozen(nn.Module):
        size_rule = SizeRule()

        def forward(self, x):
            half = int(x.shape[2] / 2)
            return torch.cat([x[:, :, :half] * 2, x[:, :, half:]], 2)

    with pytest.raises(ExportError, match="H // 2"):
        FP32.export(request(tmp_path / "a.onnx", Frozen()))
    assert not list(tmp_path.iterdir())


def test_a_frozen_size_that_does_not_show_breaks_parity_and_leaves_nothing(tmp_path):
    """torch keeps the symbolic names and takes the example's branch all the same."""
    module = FrozenHalf()
    reference = Restorer(TorchEngine(module), IODescription(size=module.size_rule))

    def verify(path):
        low = worst(list(parity(reference, restorer(path), [torch.rand(1, 3, *size) for size in UNSEEN])))
        raise ExportError(f"parity {low}") if low.psnr_db < 90 else AssertionError("the mistake was not seen")

    with pytest.raises(ExportError, match="parity"):
        FP32.export(ExportRequest(tmp_path / "a.onnx", module, module.size_rule, verify, metadata=STEPS_OF_4))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, MODELS.create("prenet", "tiny").eval(), {})
    return path


PAIRS = PairsRequest("scenes", limit=10, size=(96, 128), split="calibration")


def test_export_writes_artefacts_manifests_and_weights(weights, tmp_path):
    made = export(tmp_path, checkpoint=weights, precisions=["fp32", "int8"], pairs=PAIRS, calibration_count=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "prenet-tiny-fp32.onnx",
        "prenet-tiny-fp32.onnx.json",
        "prenet-tiny-int8.onnx",
        "prenet-tiny-int8.onnx.json",
        "prenet-tiny.safetensors",
    ]
    fp32, int8 = (read_manifest(artefact.path) for artefact in made)
    assert len({figure.size for figure in fp32.parity}) == 3
    assert all(figure.psnr_db == "identical" or figure.psnr_db >= 90 for figure in fp32.parity)
    assert {figure.reference for figure in int8.parity} == {"torch", "literal"}
    assert all(figure.psnr_db == "identical" or figure.psnr_db >= 30 for figure in int8.parity)
    assert int8.graph.sha256 == fp32.artefact.sha256
    assert int8.calibration.count == 2
    assert int8.source.file == "prenet-tiny.safetensors"
    stored = {entry.key: entry.value for entry in onnx.load(str(made[1].path)).metadata_props}
    assert stored["deploy_robust.precision"] == "int8"
    # The file alone, without its manifest, still says how it takes images.
    described = describe(made[1].path)
    made[1].path.with_name(made[1].path.name + ".json").unlink()
    assert describe(made[1].path) == described


def test_int8_alone_leaves_no_fp32(weights, tmp_path):
    export(tmp_path, checkpoint=weights, precisions=["int8"], pairs=PAIRS, calibration_count=2)
    assert not list(tmp_path.glob("*fp32*"))
    assert not list(tmp_path.glob(".*"))


def test_broken_parity_leaves_nothing(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(verifier, "CONVERSION", {"fp32": Bound(90.0), "int8": Bound(200.0)})
    with pytest.raises(ExportError, match=r"parity of int8 .* dB, max .* bound is 200 dB"):
        export(tmp_path, checkpoint=weights, precisions=["int8"], pairs=PAIRS, calibration_count=2)
    assert not list(tmp_path.iterdir())


def test_wrong_requests(tmp_path, weights):
    with pytest.raises(UsageError, match="did you mean 'int8'"):
        export(tmp_path, checkpoint=weights, precisions=["int9"])
    with pytest.raises(UsageError, match="--checkpoint"):
        export(tmp_path)
    with pytest.raises(ImageError, match="at least 36"):
        parity_sizes((33, 64))


@pytest.mark.parametrize("size", [(36, 36), (96, 128), (128, 128), (192, 256), (481, 321), (2000, 3000)])
def test_parity_sizes_are_three_and_fit(size):
    sizes = parity_sizes(size)
    assert len(set(sizes)) == 3
    assert all(32 < h <= size[0] and 32 < w <= size[1] for h, w in sizes)
    assert (64, 96) not in sizes
