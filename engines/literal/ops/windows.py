"""Where the windows of convolutions and pools lie: given paddings, or those that follow from the size of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy_robust.engines.literal.graph import Node


@dataclass(frozen=True, slots=True)
class Padding:
    """The attributes ``auto_pad`` and ``pads`` of a node.

    Attributes:
        how: ``NOTSET`` (`pads` holds), ``VALID`` (none), ``SAME_UPPER`` or ``SAME_LOWER``: as many windows as strides
            fit; an odd pixel is added after or before.
        pads: All starts, then all ends; None for zeros.
    """

    how: str
    pads: list[int] | None

    @property
    def same(self) -> bool:
        """Whether it depends on the size of the image."""
        return self.how.startswith("SAME")

    def around(
        self, sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """Pixels before and after each axis.

        Args:
            sizes: Of the image, for each axis.
            extents: Of a window with its dilation, in pixels.
            strides: Of the windows, in pixels.
        """
        rank = len(extents)
        if not self.same:
            pads = self.pads or [0] * (2 * rank)
            return pads[:rank], pads[rank:]
        totals = [
            max(0, (-(-size // stride) - 1) * stride + extent - size)
            for size, extent, stride in zip(sizes, extents, strides, strict=True)
        ]
        return split(totals, self.how)


def padding_of(node: Node) -> Padding:
    """Reads the padding of a node.

    Raises:
        ArtefactError: Both attributes say something, or ``auto_pad`` is a word that ONNX does not know.
    """
    how, pads = node.attributes.get("auto_pad", "NOTSET"), node.attributes.get("pads")
    if how not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.refused(f"auto_pad {how}")
    if how != "NOTSET" and any(pads or ()):
        raise node.refused(f"auto_pad {how} with pads")
    return Padding(how, pads)


def split(totals: Sequence[int], how: str) -> tuple[list[int], list[int]]:
    """Divides pixels between the sides of each axis; ``SAME_UPPER`` puts an odd one behind, all others in front."""
    less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (less, more) if how == "SAME_UPPER" else (more, less)


def extents_of(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Sides of a window with its dilation, in pixels."""
    return [(side - 1) * dilation + 1 for side, dilation in zip(kernel, dilations, strict=True)]


def torch_order(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Paddings as `torch.nn.functional.pad` takes them: pairs from the last axis to the first."""
    return [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
