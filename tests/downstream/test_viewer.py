"""Downstream engines: every form of answer is read as what it means, in pixels of the image that was shown."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from deploy_robust.artefact.io_description import IODescription, SizeRule
from deploy_robust.downstream.adapter import Adapter, Reading
from deploy_robust.downstream.viewer import Viewer
from deploy_robust.engines.vision import OnnxVisionEngine, TorchVisionEngine
from deploy_robust.errors import ArtefactError, EngineDefect, UsageError
from deploy_robust.models.vision.registry import load_vision

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
"""Scores that say which of red, green and blue is strongest."""

NAMES = ("red", "green", "blue")


def striped(height: int = 40, width: int = 48) -> Any:
    """Vertical stripes of red, green and blue, and which is which."""
    classes = (torch.arange(width) // 8 % 3).expand(height, width)
    image = torch.nn.functional.one_hot(classes, 3).permute(2, 0, 1)[None].float() * 0.8 + 0.1
    return image, classes


def segmentation(engine: Any, *, form: Any = "scores", size: Any = None, **io: Any) -> Viewer:
    return Viewer(engine, Adapter("segmentation", NAMES, IODescription(**io), Reading(form), size=size))


def test_scores_and_labels_name_the_classes(graphs: Any, tmp_path: Path) -> None:
    image, classes = striped()
    for form, path in (
        ("scores", graphs.scores(tmp_path / "s.onnx", COLOURS)),
        ("labels", graphs.labels(tmp_path / "l.onnx", COLOURS)),
    ):
        assert torch.equal(segmentation(OnnxVisionEngine(path), form=form).classes(image), classes)


def test_images_are_padded_to_the_rule_and_cut_back(graphs: Any, tmp_path: Path) -> None:
    image, classes = striped(33, 43)
    adapter = Adapter("segmentation", NAMES, IODescription(size=SizeRule(multiple=8)), Reading("scores"))
    whole, quarter = (graphs.scores(tmp_path / f"{s}.onnx", COLOURS, stride=s) for s in (1, 4))
    assert torch.equal(Viewer(OnnxVisionEngine(whole), adapter).classes(image), classes)
    found = Viewer(OnnxVisionEngine(quarter), adapter).classes(image)
    assert found.shape == classes.shape
    assert float((found == classes).float().mean()) > 0.7  # a quarter of the resolution, between stripes of 8


def test_images_are_resized_to_what_the_network_takes(graphs: Any, tmp_path: Path) -> None:
    image, classes = striped(40, 48)
    viewer = segmentation(OnnxVisionEngine(graphs.scores(tmp_path / "s.onnx", COLOURS)), size=(80, 96))
    found = viewer.classes(image)
    assert found.shape == classes.shape
    inner = torch.arange(48) % 8
    sure = (inner > 0) & (inner < 7)  # away from the edges of the stripes
    assert torch.equal(found[:, sure], classes[:, sure])


def test_the_input_is_what_the_description_says(graphs: Any, tmp_path: Path) -> None:
    """Read as BGR, red and blue change places; a mean of one on green hides it."""
    image, classes = striped()
    engine = OnnxVisionEngine(graphs.scores(tmp_path / "s.onnx", COLOURS))
    assert torch.equal(segmentation(engine, colour="BGR").classes(image), 2 - classes)
    assert 1 not in segmentation(engine, mean=(0.0, 1.0, 0.0)).classes(image)


def test_our_own_networks_are_read_alike_in_torch_and_on_onnx_runtime(graphs: Any, tmp_path: Path) -> None:
    network, _ = load_vision("scene-segmenter")
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no tracing of shapes
        torch.onnx.export(network, (torch.rand(1, 3, 64, 64),), str(path), dynamo=False, input_names=["x"])
    adapter = Adapter(
        "segmentation", network.classes, IODescription(size=SizeRule(multiple=16)), Reading("scores"), size=(64, 64)
    )
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        Viewer(each, adapter).classes(image) for each in (TorchVisionEngine(network), OnnxVisionEngine(path))
    )
    assert float((ours == theirs).float().mean()) > 0.999


ROWS = [[4.0, 6.0, 20.0, 30.0, 0.9, 1], [10.0, 10.0, 12.0, 12.0, 0.3, 0], [0.0, 0.0, 5.0, 5.0, 0.01, 1]]


def detection(path: Path, size: Any = None, classes: tuple[str, ...] = ("car", "person"), **reading: Any) -> Viewer:
    return Viewer(OnnxVisionEngine(path), Adapter("detection", classes, IODescription(), Reading(**reading), size=size))


def found_by(viewer: Viewer, height: int = 40, width: int = 48) -> list[Any]:
    found = viewer.objects(torch.zeros(1, 3, height, width))
    return [
        [*map(float, corners), pytest.approx(float(score), abs=1e-6), int(kind)]
        for corners, score, kind in zip(found.corners, found.scores, found.classes, strict=True)
    ]


def test_rows_are_boxes_above_the_threshold(graphs: Any, tmp_path: Path) -> None:
    path = graphs.constant(tmp_path / "r.onnx", rows=[ROWS])
    assert found_by(detection(path, form="rows")) == ROWS[:2]
    assert found_by(detection(path, form="rows", threshold=0.5)) == ROWS[:1]


@pytest.mark.parametrize(
    ("boxes", "written"), [("xywh", [4, 6, 16, 24]), ("cxcywh", [12, 18, 16, 24]), ("xyxy", [4, 6, 20, 30])]
)
@pytest.mark.parametrize("normalised", [False, True])
def test_boxes_in_every_form_are_the_same_box(
    graphs: Any, tmp_path: Path, boxes: str, written: list[float], normalised: bool
) -> None:
    scale = np.array([48, 40, 48, 40] if normalised else [1, 1, 1, 1])
    row = [*(np.array(written) / scale), 0.9, 1]
    path = graphs.constant(tmp_path / "r.onnx", rows=[[row]])
    (found,) = found_by(detection(path, form="rows", boxes=boxes, normalised=normalised))
    assert found[:4] == pytest.approx([4, 6, 20, 30], abs=1e-4)


def test_boxes_come_back_in_pixels_of_the_image(graphs: Any, tmp_path: Path) -> None:
    """The network saw 80x96 pixels, the image has 40x48: boxes halve, and are cut at its border."""
    path = graphs.constant(tmp_path / "r.onnx", rows=[[[8.0, 12.0, 40.0, 60.0, 0.9, 1], [90, 70, 200, 100, 0.8, 0]]])
    assert [row[:4] for row in found_by(detection(path, size=(80, 96), form="rows"))] == [
        [4.0, 6.0, 20.0, 30.0],
        [45.0, 35.0, 48.0, 40.0],
    ]


def test_three_outputs_are_boxes_scores_and_classes(graphs: Any, tmp_path: Path) -> None:
    table = np.array(ROWS)
    kinds = (table[:, 5] + 1).astype(np.int64)  # 0 is the background
    path = graphs.constant(tmp_path / "p.onnx", labels=kinds, boxes=table[:, :4], scores=table[:, 4])
    names = {"boxes": "boxes", "scores": "scores", "classes": "labels"}
    assert found_by(detection(path, form="parts", names=names, first_class=1)) == ROWS[:2]
    in_order = graphs.constant(tmp_path / "o.onnx", a=table[:, :4], b=table[:, 4], c=kinds)
    assert found_by(detection(in_order, form="parts", first_class=1)) == ROWS[:2]


def test_overlapping_boxes_of_one_class_are_one(graphs: Any, tmp_path: Path) -> None:
    columns = np.array(
        [
            [12, 18, 16, 24, 0.1, 0.9],
            [13, 18, 16, 24, 0.1, 0.8],  # the same person again
            [12, 18, 16, 24, 0.7, 0.2],  # a car at the same place
            [30, 30, 4, 4, 0.02, 0.03],
        ],
        np.float32,
    ).T[None]
    path = graphs.constant(tmp_path / "y.onnx", answer=columns)
    found = found_by(detection(path, form="yolo", boxes="cxcywh", overlap=0.5))
    assert [(row[4], row[5]) for row in found] == [(0.9, 1), (0.7, 0)]


@pytest.mark.parametrize(
    ("answers", "reading", "complaint"),
    [
        ({"rows": np.zeros((1, 2, 5))}, {"form": "rows"}, r"rows of boxes are \(N, M, 6\)"),
        ({"a": np.zeros((1, 7, 3))}, {"form": "yolo"}, r"boxes of 2 classes are \(N, 6, M\)"),
        ({"a": np.zeros((3, 4)), "b": np.zeros(3)}, {"form": "parts"}, "are three outputs"),
        ({"a": np.zeros((3, 4)), "b": np.zeros(2), "c": np.zeros(3)}, {"form": "parts"}, "3 boxes came with 2 scores"),
        ({"a": np.zeros((1, 1, 6))}, {"form": "rows", "names": {"answer": "b"}}, "there is no output 'b'"),
        ({"a": np.full((1, 1, 6), np.nan)}, {"form": "rows"}, "output a of the downstream network is not finite"),
    ],
)
def test_answers_that_are_not_as_described_are_refused(
    graphs: Any, tmp_path: Path, answers: Any, reading: Any, complaint: str
) -> None:
    viewer = detection(graphs.constant(tmp_path / "n.onnx", **answers), **reading)
    with pytest.raises(EngineDefect, match=complaint):
        viewer.objects(torch.zeros(1, 3, 40, 48))


def test_segmentations_that_are_not_as_described_are_refused(graphs: Any, tmp_path: Path) -> None:
    image, _ = striped()
    two = Adapter("segmentation", ("a", "b"), IODescription(), Reading("scores"))
    with pytest.raises(EngineDefect, match="scores of 2 classes"):
        Viewer(OnnxVisionEngine(graphs.scores(tmp_path / "s.onnx", COLOURS)), two).classes(image)
    labels = Adapter("segmentation", ("a", "b"), IODescription(), Reading("labels"))
    with pytest.raises(EngineDefect, match="labels of 2 classes run from 0 on, and 2 came"):
        Viewer(OnnxVisionEngine(graphs.labels(tmp_path / "l.onnx", COLOURS)), labels).classes(image)
    uint8 = Adapter("segmentation", NAMES, IODescription(dtype="uint8", range=(0.0, 255.0)), Reading("scores"))
    with pytest.raises(EngineDefect, match="ONNX Runtime failed on an input of"):
        Viewer(OnnxVisionEngine(tmp_path / "s.onnx"), uint8).classes(image)


def test_a_closed_engine_and_a_file_that_is_no_graph_are_refused(graphs: Any, tmp_path: Path) -> None:
    engine = OnnxVisionEngine(graphs.scores(tmp_path / "s.onnx", COLOURS))
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.answers(torch.zeros(1, 3, 32, 32))
    (tmp_path / "n.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtefactError, match="cannot be read as ONNX"):
        OnnxVisionEngine(tmp_path / "n.onnx")
