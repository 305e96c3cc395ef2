"""Perceptual distances on the features of a network: LPIPS offline, and the features of any network given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from deploy_robust.errors import CheckpointError, EnvironmentProblem, InputError, UsageError
from deploy_robust.registry import Registry, instead_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Features = tuple[Tensor, ...]
Network = Callable[[Tensor], Sequence[Tensor]]
"""Images (N, 3, H, W) in [0, 1] to feature maps (N, C, h, w), one for each layer; differentiable."""

VARIABLE = "DEPLOY_ROBUST_LPIPS"
"""Environment variable: the folder of LPIPS trunks, or one trunk file."""

_FILES = {
    "alex": ("alexnet_features.pth", "alexnet-owt-7be5be79.pth"),
    "vgg": ("vgg16_features.pth", "vgg16-397923af.pth"),
    "squeeze": ("squeezenet1_1_features.pth", "squeezenet1_1-b8a52dc0.pth"),
}
_SMALLEST = 32

FEATURE_NETWORKS: Registry[Callable[[], Network]] = Registry("feature network")
"""Networks for the distance `features`; one line ``FEATURE_NETWORKS.add(name, factory)`` adds one."""


def _scene_features() -> Network:
    from deploy_robust.models.vision.seeing import SceneFeatures

    return SceneFeatures()


FEATURE_NETWORKS.add("scene-segmenter", _scene_features)


class Perceptual(Protocol):
    """A distance between images that is taken between their features."""

    def features(self, images: Tensor) -> Features:
        """Features of a batch (N, 3, H, W) in [0, 1]; done once for a reference."""
        ...

    def distance(self, a: Features, b: Features) -> Tensor:
        """(N,), 0 for equal features."""
        ...


class LPIPS:
    """LPIPS v0.1 (Zhang et al., CVPR 2018): heads of the ``lpips`` package on a trunk from a file.

    Args:
        net: ``alex``, ``vgg`` or ``squeeze``.
        trunk: File with the trunk's weights, or a folder that holds it; empty looks into `VARIABLE` and then into
            torchvision's cache. Nothing is downloaded.

    Raises:
        UsageError: There is no such net.
        InputError: The file named is not there, or does not fit the net.
        EnvironmentProblem: No trunk was found.
    """

    def __init__(self, net: str = "alex", trunk: str = "") -> None:
        if net not in _FILES:
            raise UsageError(f"LPIPS has no net {net!r}: {instead_of(net, _FILES)}")
        self._model = _build(net, str(find_trunk(net, trunk).resolve()))
        self._placed: tuple[torch.device, torch.dtype] | None = None

    def features(self, images: Tensor) -> Features:
        """Unit vectors over channels at every place of every layer."""
        height, width = images.shape[-2:]
        if min(height, width) < _SMALLEST:
            raise UsageError(f"LPIPS needs at least {_SMALLEST} pixels a side (got {height}x{width})")
        if self._placed != (images.device, images.dtype):
            self._model = _placed(self._model, images.device, images.dtype)
            self._placed = (images.device, images.dtype)
        return tuple(_unit(f) for f in self._model.net(self._model.scaling_layer(2 * images - 1)))

    def distance(self, a: Features, b: Features) -> Tensor:
        """Weighted squared differences, averaged over places and summed over layers."""
        heads = zip(self._model.lins, a, b, strict=True)
        return torch.stack([head.model((x - y).square()).mean((1, 2, 3)) for head, x, y in heads]).sum(0)


class FeatureDistance:
    """Squared differences of unit features of any network, averaged over places and layers; it is not LPIPS.

    Args:
        network: Where features come from.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    def features(self, images: Tensor) -> Features:
        """Unit vectors over channels at every place of every layer."""
        return tuple(_unit(f) for f in self._network(images))

    def distance(self, a: Features, b: Features) -> Tensor:
        """In [0, 4]."""
        return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]).mean(0)


def perceptual(net: str, trunk: str = "") -> Perceptual:
    """LPIPS by its net, or the distance on a registered feature network by its name.

    Raises:
        UsageError: There is neither.
    """
    if net in _FILES:
        return LPIPS(net, trunk)
    if net in FEATURE_NETWORKS:
        if trunk:
            raise UsageError(f"the feature network {net!r} takes no trunk: leave it out")
        return FeatureDistance(FEATURE_NETWORKS[net]())
    raise UsageError(f"there is no perceptual net {net!r}: {instead_of(net, [*_FILES, *FEATURE_NETWORKS])}")


def find_trunk(net: str, trunk: str = "") -> Path:
    """The file of a trunk: the one named, or in `VARIABLE`, or in torchvision's cache.

    Raises:
        InputError: The file named, by argument or variable, is not there.
        EnvironmentProblem: Nothing is named and the cache has none.
    """
    for place, said in ((trunk, "trunk"), (os.environ.get(VARIABLE, ""), VARIABLE)):
        if place:
            path = Path(place)
            for file in [path / name for name in _FILES[net]] if path.is_dir() else [path]:
                if file.is_file():
                    return file
            raise InputError(
                f"{said}={place} holds no trunk of LPIPS {net}: name a file, or a folder with {_FILES[net][0]}"
            )
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for name in _FILES[net]:
        if (cache / name).is_file():
            return cache / name
    raise EnvironmentProblem(
        f"LPIPS {net} needs the weights of its trunk, and nothing is downloaded: "
        f"give trunk=FILE, set {VARIABLE} to a folder with {_FILES[net][0]}, or put {_FILES[net][1]} into {cache}"
    )


@lru_cache(maxsize=3)
def _build(net: str, file: str) -> Any:
    import lpips

    # The package fills the trunk with random numbers of the global generator, which belongs to the caller.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    try:
        stored: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        given = {key.removeprefix("features."): value for key, value in stored.items()}
        # Inside the package a layer is called slice<k>.<torchvision's name>.
        state = {key: given[key.partition(".")[2]] for key in model.net.state_dict()}
        model.net.load_state_dict(state)
    except Exception as error:
        raise CheckpointError(f"{file} is no trunk of LPIPS {net}: {' '.join(str(error).split())[:200]}") from error
    return model.eval().requires_grad_(False)


def _placed(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A copy there; the cached one stays as it is."""
    import copy

    return copy.deepcopy(model).to(device, dtype)


def _unit(x: Tensor) -> Tensor:
    # vector_norm has gradient 0 where a place has no features at all; the square root of the package has NaN there.
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (length + 1e-10)
