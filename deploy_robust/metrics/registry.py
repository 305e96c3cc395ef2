"""The metrics by name, and what others rely on about each: unit and direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.metrics.lpips import lpips_of
from deploy_robust.metrics.psnr import psnr
from deploy_robust.metrics.ssim import ssim
from deploy_robust.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of each image of one batch against another batch.

    Attributes:
        name: Name in policies, tables and the store.
        unit: Unit for tables; empty where there is none.
        higher_is_better: Direction.
        function: Two batches (N, 3, H, W) in [0, 1] to (N,) float64.
    """

    name: str
    unit: str
    higher_is_better: bool
    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """The score of each image."""
        return self.function(a, b)


METRICS: Registry[Metric] = Registry("metric")
"""In the paper's protocols; a new metric is one file beside this one and one line here."""

for _metric in (
    Metric("psnr", "dB", higher_is_better=True, function=psnr),
    Metric("ssim", "", higher_is_better=True, function=ssim),
):
    METRICS.add(_metric.name, _metric)

OPTIONAL: Registry[Callable[[], Metric]] = Registry("optional metric")
"""Metrics that need files which are not everywhere; made and measured only where a policy bounds them."""

OPTIONAL.add("lpips", lambda: Metric("lpips", "", higher_is_better=False, function=lpips_of()))
