"""A region drawn by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from deploy_robust.errors import ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from deploy_robust.attacks.attack import Task


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pixels that are not black in an image of the same size, for all images.

    Attributes:
        mask_file: Its path, for the record.
        pixels: (H, W) bool.
    """

    mask_file: str
    pixels: Tensor

    @property
    def name(self) -> str:
        """``image``."""
        return "image"

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """The file."""
        return {"mask_file": self.mask_file}

    def region(self, task: Task) -> Tensor:
        """The same for every row.

        Raises:
            UsageError: The images have another size.
        """
        if self.pixels.shape != task.x.shape[-2:]:
            (height, width), (h, w) = self.pixels.shape, task.x.shape[-2:]
            raise UsageError(f"{self.mask_file} is {width}x{height} and the image {w}x{h}: draw it in the image's size")
        return self.pixels.to(task.x.device).expand(task.x.shape[0], 1, -1, -1)


def drawn(*, mask_file: str = "") -> Drawn:
    """Reads the file.

    Raises:
        UsageError: No file is named.
        ImageError: It cannot be read.
    """
    if not mask_file:
        raise UsageError("mask image needs mask_file = an image that is not black where pixels may move")
    try:
        with Image.open(Path(mask_file)) as image:
            pixels = np.asarray(image.convert("RGB")).any(2)
    except (OSError, ValueError) as error:
        raise ImageError(f"{mask_file} cannot be read as a mask: {error}") from None
    return Drawn(mask_file, torch.from_numpy(pixels))
