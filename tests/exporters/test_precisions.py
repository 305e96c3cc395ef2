"""fp16, bf16 and int8 for TensorRT: types, islands, excluded layers, calibration, and the graphs that are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from deploy_robust.app.export import export
from deploy_robust.app.exporting.culprit import culprit
from deploy_robust.app.exporting.images import Images
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.artefact.exporter import Calibration, ExportRequest, ExportSettings, ShapeProfile
from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.artefact.precision import precision_of
from deploy_robust.artefact.tensorrt_rules import findings
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.literal import KIND as LITERAL
from deploy_robust.errors import EnvironmentProblem, ExportError, UsageError
from deploy_robust.exporters.ends import end_convolutions
from deploy_robust.exporters.fp8 import EXPORTER as FP8
from deploy_robust.exporters.half import BF16, FP16
from deploy_robust.exporters.int8_ort import EXPORTER as INT8
from deploy_robust.exporters.int8_tensorrt import EXPORTER as INT8_TENSORRT
from deploy_robust.exporters.onnx_fp32 import EXPORTER as FP32
from deploy_robust.models.checkpoints import save_checkpoint
from deploy_robust.models.registry import MODELS
from deploy_robust.restorer import Restorer

TYPES = onnx.TensorProto


class Net(nn.Module):
    """Four convolutions in a row, one of them run twice."""

    size_rule = SizeRule()

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.neck, self.tail = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.head(x))
        y = torch.relu(self.body(torch.relu(self.body(y))))
        return x + 0.2 * self.tail(torch.relu(self.neck(y)))


def images():
    draw = np.random.default_rng(2)
    for _ in range(3):
        ramp = np.linspace(0, 200, 80)[:, None, None] + np.zeros((1, 90, 3))
        yield (ramp + draw.integers(0, 55, ramp.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    return Net().eval()


@pytest.fixture(scope="module")
def fp32(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "fp32.onnx"
    FP32.export(ExportRequest(path, net, net.size_rule, lambda _: ()))
    return path


def made(exporter, path, net, graph=None, method="minmax", **settings) -> onnx.ModelProto:
    exporter.export(
        ExportRequest(
            path,
            net,
            net.size_rule,
            lambda _: (),
            graph,
            Calibration(images, method),
            settings=ExportSettings(**settings),
        )
    )
    return onnx.load(str(path))


def literally(path, x):
    restorer = Restorer(*LITERAL.open(path, EngineOptions()))
    with torch.no_grad():
        return restorer(x)


@pytest.mark.parametrize(("exporter", "kind"), [(FP16, TYPES.FLOAT16), (BF16, TYPES.BFLOAT16)])
def test_half_graphs_keep_float32_ends_and_half_weights(net, tmp_path, exporter, kind):
    model = made(exporter, tmp_path / "half.onnx", net)
    assert precision_of(model) == exporter.name
    assert model.graph.input[0].type.tensor_type.elem_type == TYPES.FLOAT
    assert model.graph.output[0].type.tensor_type.elem_type == TYPES.FLOAT
    assert Counter(node.op_type for node in model.graph.node)["Cast"] == 2
    assert {t.data_type for t in model.graph.initializer if len(t.dims) == 4} == {kind}
    assert next(p.dtype for p in net.parameters()) == torch.float32  # the caller's network is left alone


def test_literal_reading_of_a_half_graph_is_near_torch_half(net, tmp_path):
    """torch's own half arithmetic on this CPU, node by node, is the independent reference."""
    made(FP16, tmp_path / "half.onnx", net)
    x = torch.rand(1, 3, 41, 37, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        right = Net().eval()
        right.load_state_dict(net.state_dict())
        torch_half = right.half()(x.half()).float()
    assert (literally(tmp_path / "half.onnx", x) - torch_half).abs().max() <= 2e-3


def test_an_island_stays_in_float32(net, tmp_path):
    plain = made(FP16, tmp_path / "plain.onnx", net)
    island = made(FP16, tmp_path / "island.onnx", net, keep_fp32=("body",))
    kinds = Counter(t.data_type for t in island.graph.initializer if len(t.dims) == 4)
    assert kinds == {TYPES.FLOAT16: 3, TYPES.FLOAT: 1}
    casts = [sum(n.op_type == "Cast" for n in model.graph.node) for model in (plain, island)]
    assert casts[1] > casts[0]
    with pytest.raises(UsageError, match="'boddy' to keep in fp32: did you mean 'body'"):
        made(FP16, tmp_path / "a.onnx", net, keep_fp32=("boddy",))


def test_a_weight_beyond_float16_is_named(tmp_path):
    torch.manual_seed(0)
    net = Net().eval()
    net.neck.weight.data[0, 0] = 1e5
    with pytest.raises(ExportError, match=r"neck\.weight holds 1e\+05 .* keep neck in fp32 \(--keep-fp32\)"):
        made(FP16, tmp_path / "a.onnx", net)
    made(BF16, tmp_path / "b.onnx", net)
    made(FP16, tmp_path / "c.onnx", net, keep_fp32=("neck",))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.onnx", "c.onnx"]


def test_int8_for_tensorrt_keeps_the_rules_and_the_ends_in_float(net, fp32, tmp_path):
    model = made(INT8_TENSORRT, tmp_path / "a.onnx", net, fp32)
    assert findings(model) == []
    quantised = {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(i.endswith("_DequantizeLinear_Output") for i in node.input)
    }
    assert len(quantised) == 3  # the body's two passes and the neck
    every = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert len(every - quantised) == 2
    ends = made(INT8_TENSORRT, tmp_path / "b.onnx", net, fp32, quantise_ends=True)
    assert findings(ends) == []
    assert sum(n.op_type == "QuantizeLinear" for n in ends.graph.node) > sum(
        n.op_type == "QuantizeLinear" for n in model.graph.node
    )


def test_int8_for_onnxruntime_leaves_ends_sums_and_products_in_float(net, fp32, tmp_path):
    def coded(model):
        """Layers whose weights are stored as codes, and the operators whose results are turned to codes."""
        maker = {name: node.op_type for node in model.graph.node for name in node.output}
        weights = " ".join(t.name for t in model.graph.initializer if t.data_type == TYPES.INT8 and t.dims)
        results = {maker[n.input[0]] for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in maker}
        return {name for name, _ in net.named_children() if f"{name}.weight" in weights}, results

    layers, results = coded(made(INT8, tmp_path / "a.onnx", net, fp32))
    assert layers == {"body", "neck"}
    assert results <= {"Conv", "Relu"}
    layers, results = coded(made(INT8, tmp_path / "b.onnx", net, fp32, quantise_ends=True))
    assert layers == {"head", "body", "neck", "tail"}
    assert results <= {"Conv", "Relu"}


def test_the_ends_of_a_recurrent_network_are_whole_layers(fp32):
    model = onnx.load(str(fp32))
    names = end_convolutions(model)
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    assert sorted(weights[name] for name in names) == ["head.weight", "tail.weight"]


class Wide(Net):
    """The same with as many channels as fp8 kernels take, but for the neck."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.neck, self.tail = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 3, 3, padding=1)


def test_fp8_scales_to_the_largest_number_and_leaves_narrow_layers_in_float(tmp_path):
    torch.manual_seed(3)
    net = Wide().eval()
    FP32.export(ExportRequest(tmp_path / "fp32.onnx", net, net.size_rule, lambda _: ()))
    model = made(FP8, tmp_path / "fp8.onnx", net, tmp_path / "fp32.onnx")
    assert findings(model) == []
    assert precision_of(model) == "fp8"
    constants = {t.name: t for t in model.graph.initializer}
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {constants[node.input[2]].data_type for node in quantisers} == {TYPES.FLOAT8E4M3FN}
    weights = [node for node in quantisers if node.input[0] in constants]
    assert [node.input[0] for node in weights] == ["body.weight"]
    largest = net.body.weight.detach().abs().amax((1, 2, 3))
    scales = torch.from_numpy(onnx.numpy_helper.to_array(constants[weights[0].input[1]]).copy())
    torch.testing.assert_close(scales * 448, largest, rtol=1e-6, atol=0)
    # ONNX's own evaluator has its own 8-bit floats: the same codes everywhere, and a convolution of another order.
    x = torch.rand(1, 3, 33, 41, generator=torch.Generator().manual_seed(0))
    (right,) = ReferenceEvaluator(model).run(None, {"rainy": x.numpy()})
    assert np.abs(literally(tmp_path / "fp8.onnx", x).numpy() - right).max() <= 1e-5
    with torch.no_grad():
        apart = (net(x) - torch.from_numpy(right)).abs().max()
    assert 1e-5 < apart < 0.1


def test_fp8_of_a_narrow_network_is_refused_with_a_way_out(net, fp32, tmp_path):
    with pytest.raises(ExportError, match=r"16 channels or more.*use int8-tensorrt"):
        made(FP8, tmp_path / "a.onnx", net, fp32)
    assert not list(tmp_path.iterdir())


def test_calibrations_differ_for_tensorrt_too(net, fp32, tmp_path):
    written = {
        method: made(INT8_TENSORRT, tmp_path / f"{method}.onnx", net, fp32, method)
        for method in ("minmax", "percentile", "entropy")
    }
    assert len({model.SerializeToString() for model in written.values()}) == 3


def test_calibrations_differ_on_real_pairs_and_stand_in_the_manifest(net, fp32, data_root, tmp_path):
    read = Images.read(PairsRequest(str(data_root / "rain100h"), split="calibration", crop=(128, 128), limit=11), 3)
    written, records = {}, {}
    for method in ("minmax", "percentile", "entropy"):
        path = tmp_path / f"{method}.onnx"
        calibration = Calibration(lambda: read.padded(net.size_rule), method)
        INT8_TENSORRT.export(ExportRequest(path, net, net.size_rule, lambda _: (), fp32, calibration))
        graph = onnx.load(str(path)).graph
        scales = {n.input[1] for n in graph.node if n.op_type == "QuantizeLinear" and "weight" not in n.input[0]}
        constants = {t.name: float(onnx.numpy_helper.to_array(t)) for t in graph.initializer if t.name in scales}
        assert constants
        written[method], records[method] = constants, read.record(method)
    assert all(written["percentile"][name] < scale for name, scale in written["minmax"].items())  # a tail is cut off
    assert written["entropy"] not in (written["minmax"], written["percentile"])
    assert {record.method for record in records.values()} == set(records)
    (hashed,) = {record.sha256 for record in records.values()}
    first, *others = read.calibration
    touched = first.rainy.copy()
    touched[0, 0, 0] ^= 1
    for changed in ((replace(first, rainy=touched), *others), (*others, first)):
        assert replace(read, calibration=changed).record("minmax").sha256 != hashed


def test_the_graph_for_onnxruntime_is_refused_for_tensorrt(net, fp32, tmp_path):
    rules = {finding.rule for finding in findings(made(INT8, tmp_path / "a.onnx", net, fp32, quantise_ends=True))}
    assert {"zero-point", "codes", "bias"} <= rules


def test_the_culprit_is_the_layer_that_was_damaged(net, fp32, tmp_path):
    path = tmp_path / "a.onnx"
    model = made(INT8_TENSORRT, path, net, fp32)
    x = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    neck = next(n for n in model.graph.node if n.op_type == "Conv" and "neck" in n.input[1])
    weights = next(n for n in model.graph.node if neck.input[1] in n.output)
    scale = next(t for t in model.graph.initializer if t.name == weights.input[1])
    # Dequantised with another scale than quantised: three times too large.
    model.graph.initializer.append(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 3, "other"))
    weights.input[1] = "other"
    onnx.save_model(model, str(path))
    said = culprit(path, fp32, x)
    assert said is not None
    assert f"{neck.name!r}" in said, said


def test_an_overflow_names_its_layer(tmp_path):
    torch.manual_seed(0)
    net = Net().eval()
    net.neck.weight.data.fill_(6e4)
    net.body.bias.data.fill_(10.0)
    made(FP16, tmp_path / "a.onnx", net)
    said = culprit(tmp_path / "a.onnx", None, torch.rand(1, 3, 40, 40))
    assert said is not None
    assert "float16 holds at most 65504" in said
    assert "neck" in said or "Conv" in said


@pytest.mark.parametrize("text", ["1x64x64", "1x64x64,1x256x384,4x512x768"])
def test_shape_profiles_are_read_back(text):
    profile = ShapeProfile.parse(text)
    assert ShapeProfile.parse(str(profile)) == profile


@pytest.mark.parametrize("text", ["", "64x64", "1x64x64,1x32x32", "2x64x64,1x64x64,4x64x64", "axbxc", "0x1x1"])
def test_wrong_shape_profiles_teach(text):
    with pytest.raises(UsageError, match="shape"):
        ShapeProfile.parse(text)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("all")
    save_checkpoint(folder / "tiny.safetensors", MODELS.create("prenet", "tiny").eval(), {})
    out, refused = folder / "out", {}
    pairs = PairsRequest("scenes", limit=10, size=(64, 80), split="calibration")
    graphs = ("fp32", "fp16", "bf16", "int8-ort", "int8-tensorrt")
    artefacts = export(
        out,
        checkpoint=folder / "tiny.safetensors",
        precisions=graphs,
        pairs=pairs,
        calibration_count=2,
        on_refusal=refused.__setitem__,
    )
    return {a.path.name.removeprefix("prenet-tiny-"): a for a in artefacts}, refused


def test_every_precision_passes_both_parities(everything):
    artefacts, refused = everything
    assert refused == {}
    assert list(artefacts) == ["fp32.onnx", "fp16.onnx", "bf16.onnx", "int8.onnx", "int8-tensorrt.onnx"]
    floors = {"fp32": (90, 90), "fp16": (50, 50), "bf16": (50, None), "int8": (30, 25)}
    for artefact in artefacts.values():
        manifest = read_manifest(artefact.path)
        torch_floor, literal_floor = floors[manifest.precision]
        figures = {"torch": [], "literal": []}
        for figure in manifest.parity:
            figures[figure.reference].append(200.0 if figure.psnr_db == "identical" else figure.psnr_db)
        assert len(figures["torch"]) == 3
        assert min(figures["torch"]) >= torch_floor
        if literal_floor is None:
            assert not figures["literal"]
            assert "run literally" in artefact.verified.notes[0]
        else:
            assert min(figures["literal"]) >= literal_floor
        assert artefact.verified.clean_psnr_db > 5


def test_calibration_images_are_padded_to_the_networks_sizes():
    """UMRL takes multiples of 8; ONNX Runtime's calibrator would fail inside on other sizes."""
    read = Images.read(PairsRequest("scenes", limit=10, size=(75, 83), split="calibration"), 2)
    padded = list(read.padded(SizeRule(8)))
    assert [image.shape for image in padded] == [(80, 88, 3)] * 2
    for image, pair in zip(padded, read.calibration, strict=True):
        assert image.dtype == np.uint8
        assert np.array_equal(image, np.pad(pair.rainy, ((0, 5), (0, 5), (0, 0)), mode="reflect"))


def test_one_refusal_does_not_stop_the_others(everything, tmp_path, monkeypatch):
    from deploy_robust.app.exporting import verifier
    from deploy_robust.gate.parity import Bound

    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.safetensors", MODELS.create("prenet", "tiny").eval(), {})
    monkeypatch.setattr(verifier, "CONVERSION", {"fp32": Bound(90.0), "int8": Bound(200.0)})
    refused = {}
    artefacts = export(
        tmp_path / "out",
        checkpoint=tmp_path / "tiny.safetensors",
        precisions=["int8-tensorrt", "fp32"],
        pairs=PairsRequest("scenes", limit=9, size=(64, 80), split="calibration"),
        calibration_count=1,
        on_refusal=refused.__setitem__,
    )
    assert [a.path.name for a in artefacts] == ["prenet-tiny-fp32.onnx"]
    assert "most error enters at Conv node" in refused["onnx int8-tensorrt"]


def test_unknown_targets_teach(tmp_path):
    with pytest.raises(UsageError, match="no exporter writes for target 'onx': did you mean 'onnx'"):
        export(tmp_path, checkpoint="prenet-small", targets=["onx"])


def test_an_exporter_that_does_not_load_is_listed_and_not_passed_over(monkeypatch):
    from deploy_robust.app.exporting import wanted

    whole = wanted.exporter

    def broken(name):
        if name == "bf16":
            raise EnvironmentProblem("bf16 does not load")
        return whole(name)

    monkeypatch.setattr(wanted, "exporter", broken)
    said = {}
    names = [thing.name for thing in wanted.everything(said.__setitem__) if thing.exporter.target == "onnx"]
    assert said == {"bf16": "bf16 does not load"}
    assert names[0] == "fp32"
    assert "bf16" not in names
    with pytest.raises(EnvironmentProblem, match="bf16"):
        wanted.everything()
    with pytest.raises(EnvironmentProblem, match="bf16"):
        wanted.wanted(["bf16"], ["onnx"])
