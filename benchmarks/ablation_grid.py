"""What `ablations.py` trains, and what the paper (arXiv 2203.16931, section 4) says should come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy_robust.models.derainer import Derainer

PRESET = "small"
NO_MASK_LOSS = "all-l1+0.01*level"
"""JORDER-E's loss without the term that supervises the rain mask; the branch itself stays."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One network and how it is trained.

    Attributes:
        name: In tables and result files.
        model: Name in the registry, in its `small` preset.
        arguments: Constructor arguments that differ from the preset.
        loss: As `deploy_robust.training.losses.parse_loss` reads it; ``paper`` is that of the network.
        adversary: Lambda of the adversarial loss; 0 trains plainly.
        batch: Crops in a step.
    """

    name: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "paper"
    adversary: float = 0.0
    batch: int = 2

    def build(self) -> Derainer:
        """The network with fresh weights from torch's global generator."""
        return MODELS.create(self.model, PRESET, **self.arguments)


ATTENTIONS = {"se-mul": 2, "se-add": 2, "cbam": 2, "gc-mul": 2, "gc-add": 2, "sk": 4}
"""Batch by module: SK normalises means of whole images over the batch, and of two values nothing is left but signs."""

# Fewer stages are wider, so that each has about as many parameters as three stages of width 8 (33,774).
WIDTHS = {1: 11, 2: 9, 5: 6, 8: 5, 12: 4, 17: 3}


def _stages(count: int) -> Configuration:
    return Configuration(f"rcdnet stages {count}", "rcdnet", {"stages": count, "width": WIDTHS[count]})


SMALL = (
    Configuration("rcdnet", "rcdnet"),
    *(Configuration(f"rcdnet {name}", "rcdnet", {"attention": name}, batch=n) for name, n in ATTENTIONS.items()),
    _stages(1),
    _stages(2),
    Configuration("rcdnet lambda 1", "rcdnet", adversary=1.0),
    Configuration("rcdnet lambda 4", "rcdnet", adversary=4.0),
    Configuration("jorder-e", "jorder-e"),
    Configuration("jorder-e no mask", "jorder-e", loss=NO_MASK_LOSS),
    Configuration("jorder-e D 1,2", "jorder-e", {"dilations": (1, 2)}),
    Configuration("jorder-e D 1", "jorder-e", {"dilations": (1,)}),
)

_OURS = "mprnet-r-seadd-mb"
_LOSS, _LAMBDA = "all-charbonnier", 10.0

PAPER = (
    *SMALL,
    *(_stages(count) for count in (5, 8, 12, 17)),
    *(Configuration(name, name) for name in ("mprnet", "prenet", "umrl", "rescan")),
    Configuration("ours", _OURS, loss=_LOSS, adversary=_LAMBDA),
    Configuration("ours w/o AL", _OURS, loss=_LOSS),
    Configuration("ours w/o RB", _OURS, {"networks": 1}, _LOSS, _LAMBDA),
    Configuration("ours w/o DD", _OURS, {"dilations": (1,)}, _LOSS, _LAMBDA),
    Configuration("ours w/o AT", _OURS, {"attention": "none"}, _LOSS, _LAMBDA),
)

GRIDS = {"small": SMALL, "paper": PAPER}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One configuration against another, and by how much it is ahead in the paper.

    Attributes:
        better: Which the paper finds better.
        worse: Which it finds worse.
        rain100h: Difference of mean adversarial PSNR in the paper under the MSE attack, dB; None where the paper gives
            a curve without numbers.
        cityscapes: The same on RainCityscapes; negative where the paper finds the opposite there.
        what: ``map_psnr``, or ``clean_ssim`` for the price of the adversarial loss.
    """

    better: str
    worse: str
    rain100h: float | None
    cityscapes: float | None
    what: str = "map_psnr"


@dataclass(frozen=True, slots=True)
class Insight:
    """A finding of the paper, and the comparisons that it consists of."""

    text: str
    where: str
    comparisons: tuple[Comparison, ...]


_ATTENTION = {
    "se-mul": (3.81, 0.22),
    "se-add": (3.34, 0.62),
    "cbam": (2.18, 0.34),
    "gc-mul": (3.54, 0.54),
    "gc-add": (3.52, -2.22),
    "sk": (3.00, -0.44),
}

INSIGHTS = (
    Insight(
        "attention makes RCDNet more robust, whichever module it is",
        "Table 3",
        tuple(Comparison(f"rcdnet {name}", "rcdnet", *gains) for name, gains in _ATTENTION.items()),
    ),
    Insight(
        "one or two recurrent stages are more robust than three of the same total size",
        "Figure 4",
        tuple(Comparison(f"rcdnet stages {count}", "rcdnet", None, None) for count in (1, 2)),
    ),
    Insight(
        "supervising the rain mask makes JORDER-E less robust",
        "Table 4",
        (Comparison("jorder-e no mask", "jorder-e", 4.46, 2.00),),
    ),
    Insight(
        "dilations of more kinds make JORDER-E more robust",
        "Table 5",
        (Comparison("jorder-e", "jorder-e D 1,2", 1.59, 0.29), Comparison("jorder-e", "jorder-e D 1", 1.72, 0.33)),
    ),
    Insight(
        "the adversarial loss makes RCDNet more robust",
        "Table 6",
        tuple(Comparison(f"rcdnet lambda {weight}", "rcdnet", 9.56, 4.57) for weight in (1, 4)),
    ),
    Insight(
        "the adversarial loss costs clean quality",
        "Table 6",
        tuple(Comparison("rcdnet", f"rcdnet lambda {weight}", 0.0283, 0.0209, "clean_ssim") for weight in (1, 4)),
    ),
    Insight(
        "every part of the ensemble makes it more robust",
        "Table 7",
        (
            Comparison("ours", "ours w/o AL", 9.11, 10.15),
            Comparison("ours", "ours w/o RB", 2.37, 1.58),
            Comparison("ours", "ours w/o DD", 2.38, 0.77),
            Comparison("ours", "ours w/o AT", 3.05, 4.07),
        ),
    ),
)
