"""Pair sources by what a user types: ``scenes``, ``photos`` or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from deploy_robust.data.pairs import PairSource

SCENES = "scenes"
PHOTOS = "photos"

DEFAULT_COUNT = 24
DEFAULT_SIZE = (128, 128)


@dataclass(frozen=True, slots=True)
class PairsRequest:
    """Which pairs to work on.

    Attributes:
        what: ``scenes``, ``photos``, or a folder.
        limit: How many pairs at most; None takes 24 of an embedded source and all of a folder.
        size: (height, width) at which embedded sources draw or crop.
        crop: Cut folder images to (height, width); None leaves them whole.
        crop_at: ``centre``, or ``keyed`` by the seed and the pair's id.
        split: Split of an embedded source.
        seed: Seed of embedded sources and of keyed crops.
        unpaired: The folder holds rain without ground truth.
        adversarial: Whether the folder is a stored adversarial set; nothing else is then asked for.
        labels: Folder with Cityscapes labels for a folder's images; None takes ``gtFine`` in it, where it is there.
    """

    what: str = SCENES
    limit: int | None = None
    size: tuple[int, int] = DEFAULT_SIZE
    crop: tuple[int, int] | None = None
    crop_at: Literal["centre", "keyed"] = "centre"
    split: Literal["train", "calibration", "test"] = "test"
    seed: int = 0
    unpaired: bool = False
    adversarial: bool = False
    labels: str | None = None


def open_pairs(request: PairsRequest) -> PairSource:
    """Opens a pair source.

    Raises:
        UsageError: Options contradict each other.
        InputError: The folder holds no usable pairs, or a stored set is not whole.
    """
    if request.adversarial:
        from deploy_robust.stored.adversarial_set import AdversarialSet
        from deploy_robust.stored.source import SetSource

        stored = AdversarialSet.read(Path(request.what))
        stored.verify()
        return SetSource(stored)
    source: PairSource
    if request.what in (SCENES, PHOTOS):
        if request.unpaired:
            raise UsageError(f"{request.what} have ground truth: --unpaired is for a folder of real rain")
        if request.crop is not None:
            raise UsageError(f"{request.what} are drawn at their size: give --size instead of --crop")
        if request.labels is not None:
            raise UsageError(f"--labels goes with a folder of images: {request.what} bring their own or have none")
        count = DEFAULT_COUNT if request.limit is None else request.limit
        if request.what == SCENES:
            from deploy_robust.data.scenes.source import SceneSource

            return SceneSource(count, seed=request.seed, size=request.size, split=request.split)
        from deploy_robust.data.photographs import PhotoSource

        split: Literal["train", "test"] = "test" if request.split == "test" else "train"
        return PhotoSource(count, seed=request.seed, size=request.size, split=split)
    from deploy_robust.data import cityscapes
    from deploy_robust.data.folders import FolderSource
    from deploy_robust.data.select import Cropped, Limited

    folder = Path(request.what)
    if (folder / cityscapes.RAIN).is_dir() and not request.unpaired:
        source = cityscapes.RainCityscapes(folder)
    else:
        source = FolderSource.open(folder, unpaired=request.unpaired)
    own = folder / cityscapes.LABELS
    if request.labels is not None or own.is_dir():
        source = cityscapes.Labelled(source, own if request.labels is None else Path(request.labels))
    if request.limit is not None:
        source = Limited(source, request.limit)
    if request.crop is not None:
        source = Cropped(source, request.crop, at=request.crop_at, seed=request.seed)
    return source
