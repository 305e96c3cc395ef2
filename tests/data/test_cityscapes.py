"""Cityscapes and RainCityscapes folders: pairs, classes by train id, boxes from instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from deploy_robust.app.pairs import PairsRequest, open_pairs
from deploy_robust.data.cityscapes import CLASSES, TRAIN_IDS, boxes_of, train_ids
from deploy_robust.data.pairs import Box
from deploy_robust.errors import DeployRobustError, ImageError, InputError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

FRAME = "aachen_000052_000019"
OTHER = "ulm_000001_000019"


def image(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def ids() -> tuple[Any, Any]:
    """Label and instance ids, 64x128: sky over road, two persons, a group of cars."""
    label = np.full((64, 128), 7, np.uint8)
    label[:20] = 23
    instance = label.astype(np.uint16)
    for number, columns in enumerate((slice(10, 20), slice(30, 34))):
        label[24:48, columns] = 24
        instance[24:48, columns] = 24_000 + number
    label[30:40, 80:120] = instance[30:40, 80:120] = 26
    label[:2] = instance[:2] = 3  # out of the region of interest
    return label, instance


def write_labels(folder: Path, frame: str = FRAME) -> None:
    label, instance = ids()
    image(folder / "val" / f"{frame}_gtFine_labelIds.png", label)
    image(folder / "val" / f"{frame}_gtFine_instanceIds.png", instance)


@pytest.fixture
def rain_cityscapes(tmp_path: Path) -> Path:
    """Two frames, one of them in two rains, 32x64 pixels; labels of twice the size."""
    rng = np.random.default_rng(0)
    root = tmp_path / "RainCityscapes"
    for frame, variants in ((FRAME, 2), (OTHER, 1)):
        city = frame.split("_")[0]
        clean = rng.integers(0, 255, (32, 64, 3), np.uint8)
        image(root / "leftImg8bit" / "val" / city / f"{frame}_leftImg8bit.png", clean)
        for number in range(variants):
            name = f"{frame}_leftImg8bit_rain_alpha_0.0{number}_beta_0.01_dropsize_0.01_pattern_1.png"
            image(root / "leftImg8bit_rain" / "val" / city / name, clean // 2)
        write_labels(root / "gtFine", frame)
    return root


def test_rainy_variants_share_their_clean_image_and_their_scene(rain_cityscapes: Path) -> None:
    source = open_pairs(PairsRequest(str(rain_cityscapes)))
    pairs = [source[index] for index in range(len(source))]
    assert [pair.scene for pair in pairs] == [FRAME, FRAME, OTHER]
    assert len({pair.id for pair in pairs}) == 3
    for pair in pairs:
        assert np.array_equal(pair.rainy, pair.clean // 2)
    assert source.identity["source"] == "RainCityscapes"
    assert source.name == "RainCityscapes"


def test_labels_are_train_ids_at_the_size_of_the_image(rain_cityscapes: Path) -> None:
    labels = open_pairs(PairsRequest(str(rain_cityscapes)))[0].labels
    assert labels.class_names == CLASSES
    label, _ = ids()
    assert labels.classes is not None
    # Halving by the nearest pixel takes one of four; here all four agree.
    assert np.array_equal(labels.classes, train_ids(label[::2, ::2]))
    assert set(np.unique(labels.classes).tolist()) == {0, 10, 11, 13, 255}  # road, sky, person, car, ignored
    assert labels.boxes == (
        Box("car group", 40, 15, 60, 20),
        Box("person", 5, 12, 10, 24),
        Box("person", 15, 12, 17, 24),
    )


def test_boxes_hold_what_they_touch() -> None:
    instance = np.zeros((4, 4), np.uint16)
    instance[1, 1:3] = 24_001
    assert boxes_of(instance, (2, 2)) == (Box("person", 0, 0, 2, 1),)
    assert boxes_of(np.array([[7_000, 29, 23]], np.uint16), (1, 3)) == ()  # road, caravan and sky have no boxes


def test_train_ids_are_the_nineteen_of_cityscapes() -> None:
    assert len(CLASSES) == 19
    assert train_ids(np.array(list(TRAIN_IDS))).tolist() == list(range(19))
    assert CLASSES[11] == "person"
    assert train_ids(np.array([0, 29, 33])).tolist() == [255, 255, 18]


def test_labels_of_another_folder_go_with_plain_pairs(tmp_path: Path) -> None:
    """The layout of the robustness benchmark: rain and norain at 512x256, labels elsewhere."""
    for kind in ("rain", "norain"):
        image(tmp_path / "pairs" / kind / f"{FRAME}_leftImg8bit.png", np.zeros((32, 64, 3), np.uint8))
    write_labels(tmp_path / "gt")
    pair = open_pairs(PairsRequest(str(tmp_path / "pairs"), labels=str(tmp_path / "gt"), crop=(32, 32)))[0]
    assert pair.labels.classes is not None
    assert pair.labels.classes.shape == (32, 32)
    assert [box.label for box in pair.labels.boxes] == ["car group", "person"]  # one is cut away
    unlabelled = open_pairs(PairsRequest(str(tmp_path / "pairs")))
    assert unlabelled[0].labels.classes is None


def complaint(request: PairsRequest) -> str:
    with pytest.raises(DeployRobustError) as told:
        open_pairs(request)[0]
    assert isinstance(told.value, InputError | ImageError | UsageError)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_does_not_fit_is_named(rain_cityscapes: Path, tmp_path: Path) -> None:
    asked = PairsRequest(str(rain_cityscapes))
    (rain_cityscapes / "gtFine" / "val" / f"{OTHER}_gtFine_labelIds.png").unlink()
    assert f"no labels for {OTHER} (1 of 3 images)" in complaint(asked)
    (rain_cityscapes / "leftImg8bit" / "val" / "ulm" / f"{OTHER}_leftImg8bit.png").unlink()
    assert f"there is no clean image {OTHER}" in complaint(asked)
    assert "--labels goes with a folder" in complaint(PairsRequest(labels=str(tmp_path)))
    image(tmp_path / "odd" / "leftImg8bit_rain" / "holiday.png", np.zeros((32, 64, 3), np.uint8))
    assert "does not begin like aachen_000052_000019" in complaint(PairsRequest(str(tmp_path / "odd")))
    for kind in ("rain", "norain"):
        image(tmp_path / "square" / kind / f"{FRAME}.png", np.zeros((32, 32, 3), np.uint8))
    write_labels(tmp_path / "gt")
    assert "another shape" in complaint(PairsRequest(str(tmp_path / "square"), labels=str(tmp_path / "gt")))
    assert "holds no *_labelIds.png" in complaint(
        PairsRequest(str(tmp_path / "square"), labels=str(tmp_path / "square"))
    )
