"""The outer contract of every network in the zoo."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which network a module is: enough to build it again.

    Attributes:
        name: Name in the registry.
        preset: Preset that the arguments started from.
        arguments: Every constructor argument, presets and overrides merged; plain data.
    """

    name: str
    preset: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}/{self.preset}"


@dataclass(frozen=True, slots=True)
class TrainingOutputs:
    """What a network computes on the way to its image; only losses look at it.

    Attributes:
        stages: Derained images (N, 3, H, W) in [0, 1] units, unclamped, in the order in which the network makes them:
            the last one is the final image.
        extras: Everything else that a loss of this network needs, by name (``mask``, ``confidence``, ``rain``, ...);
            each network's docstring says what it gives.
    """

    stages: list[Tensor]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def final(self) -> Tensor:
        """The final image, (N, 3, H, W)."""
        return self.stages[-1]


class Derainer(nn.Module, ABC):
    """A rainy RGB batch in [0, 1], (N, 3, H, W) float32, to a derained batch of the same shape, unclamped.

    The network's own range and colour order are applied inside. Sizes outside `size_rule` are the business of
    `deploy_robust.restorer.Restorer`, which pads and crops; a network may fail on them.

    Attributes:
        size_rule: Heights and widths that the network accepts as they are.
    """

    size_rule: ClassVar[SizeRule] = SizeRule()
    _identity: ModelIdentity | None = None

    @property
    def identity(self) -> ModelIdentity:
        """Which network this is; the registry sets it.

        Raises:
            UsageError: The module was built by hand.
        """
        if self._identity is None:
            raise UsageError(
                "this model was not built by the registry, so nobody could build it again: use MODELS.create"
            )
        return self._identity

    @identity.setter
    def identity(self, identity: ModelIdentity) -> None:
        self._identity = identity

    @abstractmethod
    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """The final image with every intermediate output that a loss may supervise.

        Args:
            x: Rainy images, (N, 3, H, W) float32 in [0, 1].
        """

    def forward(self, x: Tensor) -> Tensor:
        """The final image only, (N, 3, H, W), unclamped; networks with outputs to spare override it."""
        return self.training_outputs(x).final

    def __call__(self, x: Tensor) -> Tensor:
        """Derains a batch (N, 3, H, W); typed here because `nn.Module` is not."""
        answer: Tensor = super().__call__(x)
        return answer

    def for_export(self) -> nn.Module:
        """What exporters trace: the same function of the same batches in evaluation mode, the final image only.

        Networks that work in 0..255 inside give an equivalent whose values stay near 1 (FP16 keeps range to spare),
        with constants computed ahead and BatchNorm folded where a convolution precedes it; it shares nothing with the
        network. The default is the network itself. Training the answer makes no sense.
        """
        return self

    @property
    def published_parameter_count(self) -> int:
        """Number of values as the publication counts them; larger where the authors' code holds parts it never uses."""
        return self.parameter_count

    @property
    def parameter_count(self) -> int:
        """Number of trainable values; a tensor shared by several layers counts once."""
        return sum(parameter.numel() for parameter in self.parameters())
