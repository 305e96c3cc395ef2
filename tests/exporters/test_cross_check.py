"""Polygraphy runs what was exported, and its own reader reads what it left."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from deploy_robust.app.export import export
from deploy_robust.app.exporting import cross_check
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.artefact.exporter import ExportSettings
from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.manifest import read_manifest
from deploy_robust.errors import ExportError
from deploy_robust.exporters.half import BF16
from deploy_robust.exporters.onnx_fp32 import EXPORTER as FP32
from deploy_robust.gate.parity import Bound
from deploy_robust.models.checkpoints import save_checkpoint
from deploy_robust.models.registry import MODELS

PAIRS = PairsRequest("scenes", limit=9, size=(64, 80), split="calibration")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("out")
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, MODELS.create("prenet", "tiny").eval(), {})
    asked, precisions = ExportSettings(cross_check="polygraphy"), ("fp32", "int8-tensorrt")
    return export(folder, checkpoint=path, precisions=precisions, pairs=PAIRS, calibration_count=1, settings=asked)


def test_polygraphys_figures_are_ours_and_its_files_are_readable(made):
    from polygraphy.comparator import RunResults
    from polygraphy.json import load_json

    assert len(made) == 2
    for artefact in made:
        manifest = read_manifest(artefact.path)
        check = manifest.cross_check
        assert check.tool.startswith("polygraphy ")
        assert check.reference == ("torch" if manifest.precision == "fp32" else "fp32 graph")
        files = [artefact.path.parent / record.file for record in (check.inputs, check.outputs)]
        assert [sha256_of(file) for file in files] == [check.inputs.sha256, check.outputs.sha256]
        given = load_json(str(files[0]))
        answers = RunResults.load(str(files[1]))
        assert list(answers.keys()) == ["artefact", "reference"]
        assert len(given) == check.images == 8
        errors = []
        for i, feed in enumerate(given):
            found, right = (answers[name][i]["derained"] for name in ("artefact", "reference"))
            assert found.shape == feed["rainy"].shape
            errors.append(np.square(found.astype(np.float64) - right).mean())
        said = check.psnr_db
        assert said == ("identical" if max(errors) == 0 else pytest.approx(-10 * np.log10(max(errors)), abs=1e-6))
        if manifest.precision == "int8":
            # Polygraphy's session and our engine run one graph, as it is written, on the same images.
            ours = min(figure.psnr_db for figure in manifest.parity if figure.reference == "torch")
            assert abs(ours - said) < 0.5
    inspected = subprocess.run(
        [sys.executable, "-c", "from polygraphy.tools import main; main()", "inspect", "data", str(files[1])],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert inspected.returncode == 0, inspected.stderr
    assert "derained" in inspected.stdout
    assert json.loads(files[1].read_text())


def test_what_polygraphy_finds_apart_is_not_left_behind(made, tmp_path, monkeypatch):
    fp32 = tmp_path / "fp32.onnx"
    fp32.write_bytes(made[0].path.read_bytes())
    monkeypatch.setattr(cross_check, "CONVERSION", {"fp32": Bound(300.0)})
    network, x = MODELS.create("prenet", "tiny").eval(), torch.rand(1, 3, 33, 40)  # of other weights
    with pytest.raises(ExportError, match=r"Polygraphy's run of fp32\.onnx is off its fp32 reference"):
        cross_check.polygraphy_check(FP32, "fp32", fp32, None, network, [x])
    assert [file.name for file in tmp_path.iterdir()] == ["fp32.onnx"]


def test_a_precision_that_polygraphys_runner_lacks_is_said(made, tmp_path):
    """ONNX Runtime has no convolution of bfloat16 on a CPU."""
    kind = onnx.TensorProto.BFLOAT16
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["n", 3, "h", "w"]) for name in ("rainy", "derained")]
    nodes = [
        onnx.helper.make_node("Cast", ["rainy"], ["b"], to=kind),
        onnx.helper.make_node("Conv", ["b", "w"], ["c"]),
        onnx.helper.make_node("Cast", ["c"], ["derained"], to=1),
    ]
    weights = onnx.helper.make_tensor("w", kind, (3, 3, 1, 1), np.eye(3, dtype=np.float32).ravel().tolist())
    graph = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
    onnx.save_model(model, str(tmp_path / "bf16.onnx"))
    network = MODELS.create("prenet", "tiny").eval()
    with pytest.raises(ExportError, match=r"Polygraphy cannot run bf16\.onnx .*leave --cross-check out for bf16"):
        cross_check.polygraphy_check(
            BF16, "bf16", tmp_path / "bf16.onnx", made[0].path, network, [torch.rand(1, 3, 33, 40)]
        )
    assert [file.name for file in tmp_path.iterdir()] == ["bf16.onnx"]
