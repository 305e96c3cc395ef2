"""How good a model is on pairs that it never learnt from, as they are and under attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.errors import UsageError
from deploy_robust.metrics.psnr import psnr
from deploy_robust.restorer import pad_to_rule
from deploy_robust.training.crops import to_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deploy_robust.data.pairs import Pair
    from deploy_robust.models.derainer import Derainer
    from deploy_robust.training.crops import PairPool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedValidation:
    """PGD on LMSE against the network itself, the attacked image rounded to 8 bits.

    Attributes:
        pairs: On how many of the held-out pairs, from the first; 0 attacks none.
        epsilon: Grey levels, n of n/255.
        iterations: Of PGD; alpha is epsilon / 4.

    Raises:
        UsageError: A value is out of range.
    """

    pairs: int = 0
    epsilon: float = 4.0
    iterations: int = 10

    def __post_init__(self) -> None:
        if self.pairs < 0 or self.iterations < 1 or not 0 < self.epsilon <= 255:
            raise UsageError(
                f"validation under attack needs at least 0 pairs, 1 iteration and an epsilon in (0, 255] grey levels "
                f"(got {self.pairs}, {self.iterations} and {self.epsilon:g})"
            )


@dataclass(frozen=True, slots=True)
class Score:
    """Mean PSNR in dB over the pairs, in the paper's protocol: of the rainy input and of the output.

    `attacked_psnr` is that of the attacked output, over the pairs that were attacked; None where none was.
    """

    input_psnr: float
    output_psnr: float
    attacked_psnr: float | None = None

    @property
    def gain(self) -> float:
        """What the network adds, dB."""
        return self.output_psnr - self.input_psnr


def validate(model: Derainer, held_out: PairPool, device: str, attacked: AttackedValidation | None = None) -> Score:
    """Scores a model in evaluation mode on whole images, one at a time; its mode is restored."""
    mode = model.training
    model.eval()
    before, after, under_attack = [], [], []
    with torch.inference_mode():
        for pair in held_out.pairs:
            rainy, clean = to_tensor(pair.rainy[None]).to(device), to_tensor(held_out.clean(pair)[None]).to(device)
            height, width = pair.size
            y = model(pad_to_rule(rainy, model.size_rule))[..., :height, :width]
            before.append(psnr(rainy, clean).item())
            after.append(psnr(y, clean).item())
    if attacked is not None:
        for pair in held_out.pairs[: attacked.pairs]:
            scores = attacked_psnr(model, pair, [attacked.epsilon], iterations=attacked.iterations, device=device)
            under_attack.append(scores[0])
    model.train(mode)
    means = (sum(values) / len(values) if values else None for values in (before, after, under_attack))
    input_psnr, output_psnr, attacked_mean = means
    assert input_psnr is not None and output_psnr is not None  # noqa: S101, PT018  (a pool is never empty)
    return Score(input_psnr, output_psnr, attacked_mean)


def attacked_psnr(
    model: Derainer, pair: Pair, levels: Sequence[float], *, iterations: int = 20, device: str = "cpu"
) -> list[float]:
    """PSNR in dB of `attacked_answers`, one for each level.

    Raises:
        UsageError: The pair has no ground truth.
    """
    answers, truth = attacked_answers(model, pair, levels, iterations=iterations, device=device)
    values: list[float] = psnr(answers, truth).tolist()
    return values


def attacked_answers(
    model: Derainer, pair: Pair, levels: Sequence[float], *, iterations: int = 20, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """A network's answers to PGD on itself (LMSE, best iterate), the camera rounding to 8 bits.

    Args:
        model: In evaluation mode.
        pair: With ground truth; its lower right border is cut where the network's size rule does not take it.
        levels: Epsilons in grey levels, attacked as one batch; draws are keyed by the pair's id and the level.
        iterations: Of PGD, alpha is epsilon / 4.
        device: Torch device string.

    Returns:
        One answer for each level, and the ground truth as often, (levels, 3, H, W) each.

    Raises:
        UsageError: The pair has no ground truth.
    """
    if pair.clean is None:
        raise UsageError(f"pair {pair.id} has no ground truth: an attacked PSNR needs one")
    multiple = model.size_rule.multiple
    height, width = (side - side % multiple for side in pair.size)
    x, truth = (
        to_tensor(image[None, :height, :width]).to(device).contiguous(memory_format=torch.channels_last)
        for image in (pair.rainy, pair.clean)
    )
    with torch.inference_mode():
        clean = model(x)
    rows = len(levels)
    task = Task(
        x.repeat(rows, 1, 1, 1),
        torch.tensor(levels, dtype=torch.float32, device=device).view(-1, 1, 1, 1) / 255,
        0,
        tuple((pair.id, "pgd-lmse", f"{level:g}") for level in levels),
        model,
        _own(clean).repeat(rows, 1, 1, 1),
    )
    attacked = (pgd_lmse(iterations=iterations).craft(task).images * 255).round() / 255
    with torch.inference_mode():
        return model(attacked), truth.expand(rows, -1, -1, -1)


def _own(answer: Tensor) -> Tensor:
    """A normal tensor: those of inference mode cannot take part in a graph."""
    return answer.clone()
