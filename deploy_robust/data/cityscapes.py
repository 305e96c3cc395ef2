"""Cityscapes and RainCityscapes: pairs in their folders, classes from label ids, boxes from instance ids.

Layouts and ids are those of Cordts et al., CVPR 2016, and of Hu, Fu, Zhu, Heng, CVPR 2019 (RainCityscapes).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deploy_robust.data.derived import Derived
from deploy_robust.data.images import image_size, read_image, safe_text
from deploy_robust.data.pairs import Box, Labels, Pair
from deploy_robust.errors import ImageError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from deploy_robust.data.pairs import PairSource

RAIN, CLEAN, LABELS = "leftImg8bit_rain", "leftImg8bit", "gtFine"
"""Folders of RainCityscapes: rainy images, clean ones, labels."""

TRAIN_IDS = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""Label id to class, in the order of the train ids 0 to 18; all other ids are ignored (255)."""

CLASSES = tuple(TRAIN_IDS.values())

_IGNORED = 255
_FIRST_WITH_INSTANCES = 24
_PER_CLASS = 1000
_KEY = re.compile(r"[A-Za-z-]+_\d{6}_\d{6}")


class RainCityscapes:
    """Rainy images in ``leftImg8bit_rain`` and, for each, the clean one in ``leftImg8bit`` of the same scene.

    A clean image has many rainy variants; all of them are one scene.

    Args:
        folder: Holds both folders.

    Raises:
        InputError: There is no image, or a rainy one whose name is not one of Cityscapes.
        ImageError: A rainy image has no clean one, or one of another size.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        clean = {_key(path): path for path in sorted((folder / CLEAN).rglob("*.png"))}
        self._files: list[tuple[str, Path, Path]] = []
        for rainy in sorted((folder / RAIN).rglob("*.png")):
            key = _key(rainy)
            if key not in clean:
                raise ImageError(f"{safe_text(str(rainy))}: there is no clean image {key} in {CLEAN}: add it")
            if image_size(rainy) != image_size(clean[key]):
                raise ImageError(f"{safe_text(str(rainy))}: is of another size than {safe_text(str(clean[key]))}")
            self._files.append((rainy.relative_to(folder / RAIN).with_suffix("").as_posix(), rainy, clean[key]))
        if not self._files:
            raise InputError(f"{safe_text(str(folder / RAIN))}: holds no .png image")

    @property
    def name(self) -> str:
        """The folder's name."""
        return safe_text(self._folder.resolve().name)

    @property
    def paired(self) -> bool:
        """Every image has its ground truth."""
        return True

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """Number of pairs, and one hash over the names and bytes of all files."""
        return {"source": "RainCityscapes", "count": len(self), "files": self._files_hash}

    @cached_property
    def _files_hash(self) -> str:
        return _hash_of(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        name, rainy, clean = self._files[index]
        return Pair(safe_text(name), read_image(rainy), read_image(clean), scene=_key(rainy))

    def ids(self) -> list[str]:
        """The ids in order."""
        return [safe_text(name) for name, _, _ in self._files]


class Labelled(Derived):
    """A source of Cityscapes images with their labels.

    Classes are the 19 train ids. Boxes lie around the visible pixels of each instance; a group that was labelled as one
    has a box named like ``person group``. Labels of another size are scaled to the image, classes by the nearest pixel.
    Images of one Cityscapes frame are one scene.

    Args:
        source: Its ids hold the frame's name, like ``aachen_000052_000019``.
        root: Folder with ``..._gtFine_labelIds.png`` and, for boxes, ``..._gtFine_instanceIds.png`` somewhere below.

    Raises:
        InputError: The folder holds no labels, or none for one of the images.
    """

    def __init__(self, source: PairSource, root: Path) -> None:
        super().__init__(source)
        self._root = root
        found = {_key(path): path for path in sorted(root.rglob("*_labelIds.png"))}
        if not found:
            raise InputError(f"{safe_text(str(root))}: holds no *_labelIds.png: give the folder gtFine of Cityscapes")
        keys = [_key(Path(id_)) for id_ in source.ids()]
        missing = [key for key in keys if key not in found]
        if missing:
            raise InputError(
                f"{safe_text(str(root))}: no labels for {missing[0]} ({len(missing)} of {len(keys)} images): "
                "add them, or leave those images out"
            )
        self._files = [found[key] for key in keys]

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """The source's, and one hash over the labels."""
        return {**self._source.identity, "labels": self._labels_hash}

    @cached_property
    def _labels_hash(self) -> str:
        return _hash_of((path.name, path, _instances_of(path)) for path in self._files)

    def __getitem__(self, index: int) -> Pair:
        pair = self._source[index]
        file = self._files[index]
        classes = train_ids(_read(file, ("L",)))
        size = pair.size
        if classes.shape[0] * size[1] != classes.shape[1] * size[0]:
            raise ImageError(
                f"{safe_text(str(file))}: is {classes.shape[0]}x{classes.shape[1]} (height x width) and its image "
                f"{size[0]}x{size[1]}: another shape; label what was cropped, or crop both"
            )
        instances = _instances_of(file)
        boxes = boxes_of(_read(instances, ("I;16", "I")), size) if instances.is_file() else ()
        scaled = np.asarray(Image.fromarray(classes).resize((size[1], size[0]), Image.Resampling.NEAREST))
        return replace(pair, scene=_key(file), labels=Labels(scaled.copy(), CLASSES, boxes))


def train_ids(label_ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Label ids (H, W) to train ids (H, W) uint8; 255 where none counts."""
    table = np.full(256, _IGNORED, np.uint8)
    table[list(TRAIN_IDS)] = np.arange(len(TRAIN_IDS))
    train: NDArray[np.uint8] = table[label_ids]
    return train


def boxes_of(instance_ids: NDArray[np.integer], size: tuple[int, int]) -> tuple[Box, ...]:
    """Boxes around the instances of an image, in pixels of another size of it.

    Args:
        instance_ids: (H, W): label id * 1000 + number, or the label id alone for what was labelled as a group.
        size: (height, width) that boxes are scaled to; they hold every pixel that they touch there.
    """
    down, across = size[0] / instance_ids.shape[0], size[1] / instance_ids.shape[1]
    boxes = []
    for value in np.unique(instance_ids).tolist():
        label, alone = (value // _PER_CLASS, True) if value >= _PER_CLASS else (value, False)
        if label < _FIRST_WITH_INSTANCES or label not in TRAIN_IDS:
            continue
        rows, columns = np.nonzero(instance_ids == value)
        x0, x1 = int(columns.min() * across), int(np.ceil((columns.max() + 1) * across))
        y0, y1 = int(rows.min() * down), int(np.ceil((rows.max() + 1) * down))
        boxes.append(Box(TRAIN_IDS[label] + ("" if alone else " group"), x0, y0, x1, y1))
    return tuple(boxes)


def _key(path: Path) -> str:
    """City, sequence and frame of a file of Cityscapes."""
    found = _KEY.match(path.name)
    if found is None:
        raise InputError(f"{safe_text(str(path))}: its name does not begin like aachen_000052_000019 of Cityscapes")
    return found[0]


def _instances_of(labels: Path) -> Path:
    return labels.with_name(labels.name.replace("_labelIds", "_instanceIds"))


def _read(path: Path, modes: tuple[str, ...]) -> NDArray[np.integer]:
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise ImageError(f"{safe_text(str(path))}: holds {image.mode} pixels and no ids: copy it again")
            return np.asarray(image).copy()
    except (OSError, ValueError) as error:
        raise ImageError(f"{safe_text(str(path))}: cannot be read ({error}): copy it again") from None


def _hash_of(entries: Iterable[tuple[str, Path, Path]]) -> str:
    total = hashlib.sha256()
    for name, *files in entries:
        hashes = [hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "none" for file in files]
        total.update("\0".join([name, *hashes, "\n"]).encode())
    return total.hexdigest()
