"""The colour photographs inside the scikit-image package as a second embedded source, with synthetic rain.

The files are read where the installed package keeps them; nothing is downloaded and nothing is copied into this
project; docs/data.md repeats what scikit-image says about their licences.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from deploy_robust import keyed
from deploy_robust.data.embedded import EmbeddedSource
from deploy_robust.data.images import read_image
from deploy_robust.data.pairs import Pair
from deploy_robust.data.rain import add_rain
from deploy_robust.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from deploy_robust.data.rain import RainSettings

PhotoSplit = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Photograph:
    """One file of scikit-image.

    Attributes:
        file: Name below ``skimage/data``.
        scene: What it shows; the two views of a stereo pair show the same.
        split: Where all of its crops belong.
        sha256: Hash of the file in every release that we support.
    """

    file: str
    scene: str
    split: PhotoSplit
    sha256: str


PHOTOGRAPHS = (
    Photograph(
        "astronaut.png", "astronaut", "test", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"
    ),
    Photograph("chelsea.png", "chelsea", "test", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    Photograph("rocket.jpg", "rocket", "test", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    Photograph("coffee.png", "coffee", "train", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    Photograph(
        "motorcycle_left.png", "motorcycle", "train", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"
    ),
    Photograph(
        "motorcycle_right.png",
        "motorcycle",
        "train",
        "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
    ),
    Photograph("ihc.png", "ihc", "train", "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),
)
"""The fixed split, by whole photographs: no crop of a test photograph can have been trained on.

The other colour files of the package are no photographs of daylight things (deep space, the inside of an eye, a colour
wheel): rain on their black or flat grounds says nothing.
"""


class PhotoSource(EmbeddedSource):
    """Crops of the embedded photographs at their own resolution, with synthetic rain.

    Pair `index` is a crop of photograph ``index % n``; its place and its rain come from its own key. Crops of one
    photograph share a `Pair.scene`: they are not independent, so a check on photographs alone has few scenes.

    Args:
        count: How many crops, at least 1.
        seed: Run seed.
        size: (height, width) of the crops, each at least 32 pixels, at most those of the smallest photograph.
        split: ``train`` or ``test``.
        rain: How the rain looks; None takes the defaults.

    Raises:
        UsageError: The count, the size or the split is out of range.
        EnvironmentProblem: scikit-image is not installed, or one of its photographs is missing or another one.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int = 0,
        size: tuple[int, int] = (128, 128),
        split: PhotoSplit = "test",
        rain: RainSettings | None = None,
    ) -> None:
        super().__init__("photos", count, seed=seed, size=size, split=split, splits=get_args(PhotoSplit), rain=rain)
        self._photographs = tuple(photograph for photograph in PHOTOGRAPHS if photograph.split == split)
        self._images = tuple(_read(photograph) for photograph in self._photographs)
        for photograph, image in zip(self._photographs, self._images, strict=True):
            height, width = image.shape[:2]
            if size[0] > height or size[1] > width:
                raise UsageError(
                    f"photos: size {size[0]}x{size[1]} does not fit into {photograph.file} ({height}x{width}): "
                    "ask for a smaller one"
                )

    def _origin(self) -> Mapping[str, str | int]:
        files = hashlib.sha256("".join(photograph.sha256 for photograph in self._photographs).encode()).hexdigest()
        return {"files": files[:16]}

    def _make(self, index: int) -> Pair:
        which = index % len(self._images)
        image, (height, width) = self._images[which], self._size
        rng = keyed.generator(self._seed, "photo", self._split, index)
        top = int(rng.integers(image.shape[0] - height + 1))
        left = int(rng.integers(image.shape[1] - width + 1))
        clean = image[top : top + height, left : left + width].copy()
        rainy = add_rain(clean, keyed.generator(self._seed, "rain", "photo", self._split, index), self._rain)
        return Pair(id=self._id(index), rainy=rainy, clean=clean, scene=f"photo-{self._photographs[which].scene}")

    def _id(self, index: int) -> str:
        photograph = self._photographs[index % len(self._photographs)]
        return f"photo-{self._split}-{index:06d}-{Path(photograph.file).stem}"


def _read(photograph: Photograph) -> NDArray[np.uint8]:
    # find_spec does not import the package: importing it takes far longer than reading the file.
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise EnvironmentProblem("photos: scikit-image is not installed: pip install scikit-image")
    path = Path(package.origin).parent / "data" / photograph.file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != photograph.sha256:
        raise EnvironmentProblem(
            f"photos: {path} is missing or not the file we know: reinstall scikit-image from its wheel, or use scenes"
        )
    return read_image(path)
