"""What each network's own paper minimises: stages, side information, and the sum of both under one name.

Every term works in [0, 1] units, so that learning rates, clipping and lambda mean the same for every network. Where a
paper trains in 0..255, its sum is divided by 255 (absolute differences) or by 255^2 (squares), which Adam does not see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.errors import UsageError
from deploy_robust.models.jorder_e import side_information
from deploy_robust.training.losses import TERMS, FinalImage, charbonnier, mse, negative_ssim

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deploy_robust.models.derainer import Derainer, TrainingOutputs
    from deploy_robust.training.crops import Batch

PAPER = "paper"
"""As a loss: what the paper of the network in training minimises."""

JORDER_MASK_WEIGHT = 1e-3 * 8 * 64 * 64 / 255
"""The authors sum the cross-entropy over a batch of eight crops of 64 px; here it is a mean, whatever the batch."""

PAPER_LOSSES = {
    "jorder-e": f"all-l1+{JORDER_MASK_WEIGHT:.6f}*mask+0.01*level",
    "rcdnet": "mse+0.1*earlier-mse+0.1*rain+0.9*last-rain",
    "mprnet": "all-charbonnier+0.05*all-edge",
    "prenet": "ssim",
    "umrl": "umrl-scales+umrl-confidence",
    "rescan": "all-mse",
    "mprnet-r-seadd-mb": "all-charbonnier+0.05*all-edge",
}
"""By name in the registry. The ensemble's own loss is not published: it takes that of MPRNet, over all its networks."""


def loss_text(text: str, network: str) -> str:
    """``"paper"`` spelt out for a network of the zoo, alone or as a summand; anything else as it is.

    Raises:
        UsageError: No paper is known for that network, or ``paper`` has a weight.
    """
    parts = [part.strip() for part in text.split("+")]
    if any(part != PAPER and part.rpartition("*")[2].strip() == PAPER for part in parts):
        raise UsageError(f"paper is a sum and takes no weight (got {text!r}): weigh the other terms instead")
    if PAPER not in parts:
        return text
    if network not in PAPER_LOSSES:
        raise UsageError(f"no paper's loss is known for {network!r}: use --loss charbonnier, mse or ssim")
    return "+".join(PAPER_LOSSES[network] if part == PAPER else part for part in parts)


def l1(y: Tensor, clean: Tensor) -> Tensor:
    """Mean absolute difference; a scalar."""
    return (y - clean).abs().mean()


def edge(y: Tensor, clean: Tensor) -> Tensor:
    """Charbonnier distance between the Laplacians of two batches (MPRNet, CVPR 2021); a scalar."""
    return charbonnier(_laplacian(y), _laplacian(clean))


def _laplacian(x: Tensor) -> Tensor:
    """``x - G(4 * zero-upsampled(G(x)[::2, ::2]))``, G a 5x5 binomial-like filter with replicated borders."""
    low = _gauss(x)
    kept = torch.zeros_like(low)
    kept[..., ::2, ::2] = 4 * low[..., ::2, ::2]
    return x - _gauss(kept)


def _gauss(x: Tensor) -> Tensor:
    taps = x.new_tensor([0.05, 0.25, 0.4, 0.25, 0.05])
    planes = F.pad(x.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="replicate")  # (N * 3, 1, H + 4, W + 4)
    planes = F.conv2d(F.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return planes.view(x.shape)


@dataclass(frozen=True, slots=True)
class Stages:
    """The sum of a distance over the images that a network makes; all of them, or those before `last`."""

    distance: Callable[[Tensor, Tensor], Tensor]
    last: int | None = None

    def __call__(self, model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
        """See `deploy_robust.training.losses.LossTerm`."""
        images = outputs.stages[: self.last]
        if not images:
            raise UsageError(f"{model.identity} makes one image only: leave the loss on earlier stages out")
        return torch.stack([self.distance(image, batch.clean) for image in images]).sum()


def jorder_mask(model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
    """Cross-entropy of JORDER-E's mask logits, mean over pixels, against `side_information`."""
    logits = _extra("mask", model, outputs)
    return F.cross_entropy(logits, side_information(batch.rainy, batch.clean)["mask"])


def jorder_level(model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
    """Mean absolute error of JORDER-E's rain level (clean minus rainy)."""
    level = _extra("level", model, outputs)
    return l1(level, side_information(batch.rainy, batch.clean)["level"])


def rain_layers(model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
    """Mean squared error of every rain layer of RCDNet, summed over its steps.

    The authors' code until 2022-09 gave a gradient to the last step of that sum only; the paper's sum is meant here.
    """
    rain = _extra("rain", model, outputs)  # (S, N, 3, H, W)
    return (rain - (batch.rainy - batch.clean)).square().mean((1, 2, 3, 4)).sum()


def last_rain_layer(model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
    """Mean squared error of RCDNet's last rain layer."""
    return mse(_extra("rain", model, outputs)[-1], batch.rainy - batch.clean)


UMRL_SCALES = (("", 1, 1.0), ("_half", 2, 0.5), ("_quarter", 4, 0.25))
"""Suffix of the extras, factor of the size, weight in the loss."""


def umrl_scales(model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:
    """Smooth L1 of ``c * image + (1 - c) * truth`` against the truth at three scales, in the paper's -1..1 range.

    The perceptual terms of the paper need VGG-16, which is not shipped, and are left out.
    """
    images = (outputs.final, *(_extra(f"clean{suffix}", model, outputs) for suffix, _, _ in UMRL_SCALES[1:]))
    terms = []
    for image, (suffix, factor, weight) in zip(images, UMRL_SCALES, strict=True):
        confidence = _extra(f"confidence{suffix}", model, outputs)
        clean = batch.clean[..., ::factor, ::factor]  # nearest neighbour
        blended = confidence * image + (1 - confidence) * clean
        terms.append(weight * F.smooth_l1_loss(2 * blended, 2 * clean))
    return torch.stack(terms).sum()


def umrl_confidence(model: Derainer, batch: Batch, outputs: TrainingOutputs) -> Tensor:  # noqa: ARG001
    """``-lambda * [4 sum log c4 + 2 sum log c2 + sum log c1] / (W H)``, which keeps confidences from collapsing to 0.

    Sums run over pixels and channels of each scale, W and H are those of the image. Lambda is 0.1, and below a penalty
    of 0.25 it falls as ``0.009 * (exp(5.4 * penalty) - 0.98)``.
    """
    parts = []
    for suffix, factor, _ in UMRL_SCALES:
        confidence = _extra(f"confidence{suffix}", model, outputs)
        # factor * sum / (W H), where the map has W H / factor^2 positions and three channels.
        parts.append(-3 / factor * confidence.clamp(min=1e-6).log().mean())
    penalty = torch.stack(parts).sum()
    small = 0.009 * (torch.exp(5.4 * penalty.detach()) - 0.98)
    return torch.where(penalty.detach() < 0.25, small, torch.full_like(small, 0.1)) * penalty


def _extra(name: str, model: Derainer, outputs: TrainingOutputs) -> Tensor:
    if name not in outputs.extras:
        raise UsageError(
            f"{model.identity} estimates no {name.replace('_', ' ')}, so no loss can supervise it: "
            f"use --loss paper, or terms of the final image"
        )
    return outputs.extras[name]


TERMS.add("l1", FinalImage(l1))
TERMS.add("edge", FinalImage(edge))
TERMS.add("all-ssim", Stages(negative_ssim))
for _name, _distance in (("l1", l1), ("mse", mse), ("charbonnier", charbonnier), ("edge", edge)):
    TERMS.add(f"all-{_name}", Stages(_distance))
TERMS.add("earlier-mse", Stages(mse, -1))
TERMS.add("mask", jorder_mask)
TERMS.add("level", jorder_level)
TERMS.add("rain", rain_layers)
TERMS.add("last-rain", last_rain_layer)
TERMS.add("umrl-scales", umrl_scales)
TERMS.add("umrl-confidence", umrl_confidence)
