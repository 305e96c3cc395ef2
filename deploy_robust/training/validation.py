"""How good a model is on pairs that it never learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.metrics.psnr import psnr
from deploy_robust.restorer import pad_to_rule
from deploy_robust.training.crops import to_tensor

if TYPE_CHECKING:
    from deploy_robust.models.derainer import Derainer
    from deploy_robust.training.crops import PairPool


@dataclass(frozen=True, slots=True)
class Score:
    """Mean PSNR in dB over the pairs, in the paper's protocol: of the rainy input and of the output."""

    input_psnr: float
    output_psnr: float

    @property
    def gain(self) -> float:
        """What the network adds, dB."""
        return self.output_psnr - self.input_psnr


def validate(model: Derainer, held_out: PairPool, device: str) -> Score:
    """Scores a model in evaluation mode on whole images, one at a time; its mode is restored."""
    mode = model.training
    model.eval()
    before, after = [], []
    with torch.inference_mode():
        for pair in held_out.pairs:
            rainy, clean = to_tensor(pair.rainy[None]).to(device), to_tensor(held_out.clean(pair)[None]).to(device)
            height, width = pair.size
            y = model(pad_to_rule(rainy, model.size_rule))[..., :height, :width]
            before.append(psnr(rainy, clean).item())
            after.append(psnr(y, clean).item())
    model.train(mode)
    return Score(sum(before) / len(before), sum(after) / len(after))
