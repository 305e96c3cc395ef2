"""The zoo's table of contents: which networks there are, in which presets, and how to build one.

A new network is one file beside this one and one `MODELS.add(...)` below.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy_robust.errors import UsageError
from deploy_robust.models.derainer import ModelIdentity
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from deploy_robust.models.derainer import Derainer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One network of the zoo.

    Attributes:
        name: Name on the command line.
        title: Name in the literature.
        summary: One line on what it is.
        reference: Authors, title, venue.
        factory: ``module:Class`` of the `Derainer`, imported when a model is built.
        presets: Constructor arguments by preset name; the first preset is the default.
        native_range: Range of pixel values inside the network.
        native_colour: Colour order inside the network.
        official_importer: ``module:function`` that maps the authors' state dict to ours; None where none is known.
        official_presets: Presets that published checkpoints fit.
        official_licence: Licence under which the authors publish their weights.
    """

    name: str
    title: str
    summary: str
    reference: str
    factory: str
    presets: Mapping[str, Mapping[str, Any]]
    native_range: tuple[float, float] = (0.0, 1.0)
    native_colour: str = "RGB"
    official_importer: str | None = None
    official_presets: tuple[str, ...] = ()
    official_licence: str = "none stated"

    def model_class(self) -> type[Derainer]:
        """The class that `factory` names."""
        found: type[Derainer] = _imported(self.factory)
        return found

    def from_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' state dict under our keys.

        Raises:
            UsageError: No checkpoints of the authors are known for this network.
        """
        if self.official_importer is None:
            raise UsageError(f"no official checkpoint layout is known for {self.name}: load a .safetensors of our own")
        importer: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = _imported(self.official_importer)
        return importer(state)


class ModelRegistry:
    """Networks by name. A plain object: it can be copied, and a failed `add` leaves it as it was."""

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: ModelSpec) -> None:
        """Adds a network.

        Raises:
            ValueError: The name is taken, or the network has no preset.
        """
        if spec.name in self._specs:
            raise ValueError(f"a model named {spec.name!r} is registered already")
        if not spec.presets:
            raise ValueError(f"model {spec.name!r} has no preset")
        self._specs[spec.name] = spec

    def copy(self) -> ModelRegistry:
        """An independent registry of the same networks."""
        return ModelRegistry(self._specs.values())

    def names(self) -> list[str]:
        """Names in the order of registration."""
        return list(self._specs)

    def spec(self, name: str) -> ModelSpec:
        """The network of that name.

        Raises:
            UsageError: There is none.
        """
        if name not in self._specs:
            raise UsageError(f"no model is named {name!r}: {instead_of(name, self._specs)}")
        return self._specs[name]

    def presets(self, name: str) -> list[str]:
        """Preset names of a network; the first is the default."""
        return list(self.spec(name).presets)

    def create(self, name: str, preset: str | None = None, **overrides: Any) -> Derainer:
        """Builds a network with fresh weights, in training mode.

        Args:
            name: Name in the registry.
            preset: Preset name; None takes the network's first.
            **overrides: Constructor arguments that replace those of the preset.

        Raises:
            UsageError: Name, preset or an override is unknown, or a value is out of range.
        """
        spec = self.spec(name)
        preset = next(iter(spec.presets)) if preset is None else preset
        if preset not in spec.presets:
            raise UsageError(f"{name} has no preset {preset!r}: {instead_of(preset, spec.presets)}")
        model_class = spec.model_class()
        accepted = inspect.signature(model_class).parameters
        if unknown := [key for key in overrides if key not in accepted]:
            raise UsageError(f"{name} has no argument {unknown[0]!r}: {instead_of(unknown[0], accepted)}")
        arguments = {**spec.presets[preset], **overrides}
        model = model_class(**arguments)
        model.identity = ModelIdentity(name=name, preset=preset, arguments=arguments)
        return model


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


MODELS = ModelRegistry()
"""The networks that deploy-robust ships."""

MODELS.add(
    ModelSpec(
        name="prenet",
        title="PReNet",
        summary="one small recurrent network applied several times, with an LSTM cell of convolutions",
        reference=(
            "D. Ren, W. Zuo, Q. Hu, P. Zhu, D. Meng: Progressive Image Deraining Networks: A Better and Simpler "
            "Baseline, CVPR 2019, arXiv:1901.09221"
        ),
        factory="deploy_robust.models.prenet:PReNet",
        presets={
            "official": {"width": 32, "iterations": 6},
            "benchmark": {"width": 96, "iterations": 6},
            "official-r": {"width": 32, "iterations": 6, "shared_blocks": True},
            "small": {"width": 16, "iterations": 4},
            "tiny": {"width": 4, "iterations": 2},
        },
        official_importer="deploy_robust.models.prenet:from_official",
        official_presets=("official", "official-r"),
    )
)

MODELS.add(
    ModelSpec(
        name="mprnet",
        title="MPRNet",
        summary="three stages: quarters of the image, its halves, the whole; channel attention everywhere",
        reference=(
            "S. W. Zamir, A. Arora, S. Khan, M. Hayat, F. S. Khan, M.-H. Yang, L. Shao: Multi-Stage Progressive Image "
            "Restoration, CVPR 2021, arXiv:2102.02808"
        ),
        factory="deploy_robust.models.mprnet:MPRNet",
        presets={
            "official": {"width": 40, "unet_step": 20, "full_step": 16, "level_blocks": 2, "group_blocks": 8},
            "benchmark": {"width": 40, "unet_step": 20, "full_step": 16, "level_blocks": 2, "group_blocks": 8},
            "small": {"width": 16, "unet_step": 8, "full_step": 8, "level_blocks": 1, "group_blocks": 2},
            "tiny": {"width": 4, "unet_step": 2, "full_step": 4, "level_blocks": 1, "group_blocks": 1},
        },
        official_importer="deploy_robust.models.mprnet:from_official",
        official_presets=("official",),
        official_licence="Academic Public License (non-commercial)",
    )
)

MODELS.add(
    ModelSpec(
        name="mprnet-r-seadd-mb",
        title="MPRNet-R-SEADD-MB",
        summary="the robust ensemble: three narrow MPRNets in a cascade, attention added, dilated branches",
        reference=(
            "Y. Yu, W. Yang, Y.-P. Tan, A. C. Kot: Towards Robust Rain Removal Against Adversarial Attacks: A "
            "Comprehensive Benchmark Analysis and Beyond, CVPR 2022, arXiv:2203.16931"
        ),
        factory="deploy_robust.models.ensemble:RobustEnsemble",
        presets={
            "benchmark": {"branch_reduction": 1},
            "rc": {"branch_reduction": 4},
            "small": {
                "branch_reduction": 4,
                "width": 12,
                "unet_step": 6,
                "full_step": 4,
                "level_blocks": 1,
                "group_blocks": 2,
            },
            "tiny": {
                "networks": 2,
                "dilations": (1, 2),
                "branch_reduction": 2,
                "width": 4,
                "unet_step": 2,
                "full_step": 4,
                "level_blocks": 1,
                "group_blocks": 1,
            },
        },
        official_importer="deploy_robust.models.ensemble:from_official",
        official_presets=("benchmark", "rc"),
    )
)

MODELS.add(
    ModelSpec(
        name="rescan",
        title="RESCAN",
        summary="dilated recurrent units with squeeze-excitation, applied stage by stage to what is left of the rain",
        reference=(
            "X. Li, J. Wu, Z. Lin, H. Liu, H. Zha: Recurrent Squeeze-and-Excitation Context Aggregation Net for Single "
            "Image Deraining, ECCV 2018, arXiv:1807.05698"
        ),
        factory="deploy_robust.models.rescan:RESCAN",
        presets={
            "official": {"width": 24, "stages": 4, "units": 5},
            "benchmark": {"width": 64, "stages": 4, "units": 5},
            "small": {"width": 12, "stages": 3, "units": 4},
            "tiny": {"width": 4, "stages": 2, "units": 3},
        },
        official_importer="deploy_robust.models.rescan:from_official",
        official_presets=("official",),
        official_licence="MIT",
    )
)

_JORDER_E = {"width": 64, "blocks": 9, "dilations": (1, 2, 3), "mask_branch": True}

MODELS.add(
    ModelSpec(
        name="jorder-e",
        title="JORDER-E",
        summary="two stages that estimate where it rains and how much, with context of several receptive fields",
        reference=(
            "W. Yang, R. T. Tan, J. Feng, Z. Guo, S. Yan, J. Liu: Joint Rain Detection and Removal from a Single Image "
            "with Contextualized Deep Networks, IEEE TPAMI 42(6), 2020, arXiv:1609.07769"
        ),
        factory="deploy_robust.models.jorder_e:JorderE",
        presets={
            "official": _JORDER_E,
            "benchmark": _JORDER_E,
            "practical": {**_JORDER_E, "width": 32, "blocks": 3},
            "small": {**_JORDER_E, "width": 12, "blocks": 2},
            "tiny": {**_JORDER_E, "width": 4, "blocks": 1},
        },
        native_range=(0.0, 255.0),
        official_importer="deploy_robust.models.jorder_e:from_official",
        official_presets=("practical", "official"),
    )
)

_RCDNET = {"stages": 17, "width": 32, "blocks": 4, "attention": "none"}

MODELS.add(
    ModelSpec(
        name="rcdnet",
        title="RCDNet",
        summary="proximal gradient descent on rain maps and background, unrolled, with learnt proximal operators",
        reference=(
            "H. Wang, Q. Xie, Q. Zhao, D. Meng: A Model-Driven Deep Neural Network for Single Image Rain Removal, "
            "CVPR 2020, arXiv:2005.01333"
        ),
        factory="deploy_robust.models.rcdnet:RCDNet",
        presets={
            "official": _RCDNET,
            "benchmark": _RCDNET,
            "small": {**_RCDNET, "stages": 3, "width": 8, "blocks": 2},
            "tiny": {**_RCDNET, "stages": 2, "width": 4, "blocks": 1},
        },
        native_range=(0.0, 255.0),
        official_importer="deploy_robust.models.rcdnet:from_official",
        official_presets=("official",),
    )
)

MODELS.add(
    ModelSpec(
        name="umrl",
        title="UMRL",
        summary="dense blocks that estimate rain at three scales, each gated by its own confidence",
        reference=(
            "R. Yasarla, V. M. Patel: Uncertainty Guided Multi-Scale Residual Learning Using a Cycle Spinning CNN for "
            "Single Image De-Raining, CVPR 2019, arXiv:1906.11129"
        ),
        factory="deploy_robust.models.umrl:UMRL",
        presets={
            "official": {"width": 32},
            "benchmark": {"width": 32},
            "batch-statistics": {"width": 32, "batch_statistics": True},
            "small": {"width": 12},
            "tiny": {"width": 4},
        },
        native_range=(-1.0, 1.0),
        official_importer="deploy_robust.models.umrl:from_official",
        official_presets=("official", "batch-statistics"),
        official_licence="MIT",
    )
)
