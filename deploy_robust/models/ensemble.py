"""MPRNet-R-SEADD-MB, the robust ensemble of Y. Yu et al., CVPR 2022, section 4.3; arXiv:2203.16931.

The name says how it differs from MPRNet: R, recurrent (a cascade of networks); SEADD, squeeze-excitation added; MB,
multiple branches of different dilation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from deploy_robust.artefact.io_description import SizeRule
from deploy_robust.errors import UsageError
from deploy_robust.models.derainer import Derainer, TrainingOutputs
from deploy_robust.models.mprnet import ThreeStages
from deploy_robust.models.mprnet_keys import renamed, three_stages_key
from deploy_robust.models.page import ModelPage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


class RobustEnsemble(Derainer):
    """Narrow MPRNets in a cascade, each with its own weights: y_1 = f_1(O), y_k = f_k(y_{k-1}); nothing is clamped.

    The published code runs each network in [0, 1] between a division and a multiplication by 255, which cancel; sizes
    that do not fit are padded outside instead of its patchwork of borders. The paper's ablations are arguments: without
    recurrence is ``networks=1``, without dilations ``dilations=(1,)``, without attention ``attention="none"``.

    `training_outputs` gives stages 1, 2 and 3 of every network in turn and no extras.

    Args:
        networks: Networks in the cascade; 3 as published.
        dilations: Of the branches of every attention block; (1, 2, 4) as published.
        branch_reduction: The branches after the first are narrower by this factor; 1 as published for Rain100H, 4 for
            RainCityscapes.
        attention: Name in `ATTENTIONS`; ``se-add`` as published.
        width: 24 as published; this and the following arguments are those of `ThreeStages`.
        unet_step: 12 as published.
        full_step: 8 as published.
        level_blocks: 2 as published.
        group_blocks: 8 as published.
    """

    size_rule: ClassVar[SizeRule] = SizeRule(multiple=8)

    def __init__(
        self,
        *,
        networks: int = 3,
        dilations: Sequence[int] = (1, 2, 4),
        branch_reduction: int = 1,
        attention: str = "se-add",
        width: int = 24,
        unet_step: int = 12,
        full_step: int = 8,
        level_blocks: int = 2,
        group_blocks: int = 8,
    ) -> None:
        if networks < 1:
            raise UsageError(f"the ensemble needs at least one network (got {networks})")
        super().__init__()
        self.networks = nn.ModuleList(
            ThreeStages(
                width=width,
                unet_step=unet_step,
                full_step=full_step,
                level_blocks=level_blocks,
                group_blocks=group_blocks,
                dilations=dilations,
                branch_reduction=branch_reduction,
                attention=attention,
            )
            for _ in range(networks)
        )

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """Three stages of each network; see the class."""
        stages: list[Tensor] = []
        for network in self.networks:
            stages += network(stages[-1] if stages else x)
        return TrainingOutputs(stages)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the keys of the authors' checkpoints; unknown keys keep their names.

    Raises:
        CheckpointError: The copies of a network's shared PReLU slope differ.
    """
    return renamed(state, _our_key)


def _our_key(key: str) -> str:
    match = re.fullmatch(r"mprnet([1-9])\.(.+)", key)
    return f"networks.{int(match[1]) - 1}.{three_stages_key(match[2])}" if match else key


PAGE = ModelPage(
    blocks=(
        ("network", "MPRNet at widths 24, 36, 48 and 32 in stage 3, with the block below everywhere"),
        (
            "multi-branch block",
            "x + A(conv(PReLU(conv(x)))) with dilation 1, + 0.1 of the same with dilation 2, + 0.1 with dilation 4; "
            "the last two narrower by the branch reduction",
        ),
        (
            "A, squeeze-excitation added",
            "x + conv(ReLU(conv(mean of each channel))), 1x1 convs, reduction 4, no sigmoid",
        ),
        ("cascade", "three networks with separate weights; each takes the image of the one before, unclamped"),
    ),
    choices=(
        (
            "The published source does not parse.",
            "Its evident meaning: every block has the branch reduction that the network is given.",
        ),
        (
            "Each published network divides by 255 and multiplies again, and doubles its input in odd last rows and "
            "columns.",
            "0..1 throughout, which is the same; the border is padded outside the network instead.",
        ),
        (
            "Branch reduction: 1 is the default and that of the Rain100H commands, 4 that of RainCityscapes.",
            "Presets `benchmark` and `rc`.",
        ),
        (
            "Whether the ablations were widened to equal size.",
            'Not widened: `networks=1`, `dilations=(1,)` and `attention="none"` change nothing else.',
        ),
        (
            "How it was trained: neither the trainer nor its loss, lambda and inner attack are published.",
            "Every stage of every network is a training output; see the training page for the loss and the attack.",
        ),
    ),
)
