"""Images between their two forms: 8-bit arrays as files and stores hold them, and tensors as networks take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from deploy_robust.gate.records import digest_of_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(torch.float32) / 255


def codes_of(x: Tensor) -> Tensor:
    """[0, 1] floats to the 8-bit codes of a camera, rounded half to even."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def keep(x: Tensor, images: dict[str, NDArray[np.uint8]]) -> str:
    """Notes (1, 3, H, W) floats as an 8-bit image and returns its SHA-256."""
    return keep_codes(codes_of(x.detach()[0]), images)


def keep_codes(codes: Tensor, images: dict[str, NDArray[np.uint8]]) -> str:
    """The same of 8-bit codes (3, H, W)."""
    return keep_array(to_image(codes), images)


def to_image(codes: Tensor) -> NDArray[np.uint8]:
    """(3, H, W) uint8 to (H, W, 3)."""
    return np.ascontiguousarray(codes.permute(1, 2, 0).cpu().numpy())


def keep_array(image: NDArray[np.uint8], images: dict[str, NDArray[np.uint8]]) -> str:
    """Notes an image (H, W, 3) and returns its SHA-256."""
    sha256 = digest_of_image(image)
    images[sha256] = image
    return sha256
