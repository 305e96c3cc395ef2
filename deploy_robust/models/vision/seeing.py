"""The shipped segmentation network as attacks see through it: its features, and its class scores."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from deploy_robust.models.vision.registry import load_vision
from deploy_robust.restorer import pad_to_rule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from deploy_robust.models.vision.network import VisionNetwork

SEGMENTER = "scene-segmenter"
"""Name of its weights, and of what is registered by it."""


class _Placed:
    """A frozen network, on the device and in the type of the images that come."""

    def __init__(self, name: str) -> None:
        self._network = load_vision(name)[0].eval().requires_grad_(False)
        self._at: tuple[torch.device, torch.dtype] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it tells apart, in the order of its channels."""
        return self._network.classes

    def network(self, images: Tensor) -> VisionNetwork:
        """There."""
        if self._at != (images.device, images.dtype):
            self._network = copy.deepcopy(self._network).to(images.device, images.dtype)
            self._at = (images.device, images.dtype)
        return self._network


class SceneFeatures(_Placed):
    """The four levels of its body: images (N, 3, H, W) in [0, 1] to (N, C, h, w) each; no LPIPS, and never called so.

    Args:
        name: Of shipped vision weights.
    """

    def __init__(self, name: str = SEGMENTER) -> None:
        super().__init__(name)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class; differentiable."""
        network = self.network(images)
        return network.features(pad_to_rule(images, network.size_rule))


class SceneScores(_Placed):
    """Class scores of each pixel: images (N, 3, H, W) in [0, 1] to (N, K, H, W), before the softmax.

    Args:
        name: Of shipped segmentation weights.
    """

    def __init__(self, name: str = SEGMENTER) -> None:
        super().__init__(name)

    def __call__(self, images: Tensor) -> Tensor:
        """See the class; differentiable."""
        network, (height, width) = self.network(images), images.shape[-2:]
        return network(pad_to_rule(images, network.size_rule))[..., :height, :width]
