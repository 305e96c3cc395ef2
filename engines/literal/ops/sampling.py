"""GridSample and DFT: pixels at computed places, and the Fourier transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from deploy_robust.engines.literal.operators import operator

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.engines.literal.graph import Node
    from deploy_robust.engines.literal.operators import Compute

_MODES = {"linear": "bilinear", "cubic": "bicubic", "bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest"}


@operator("GridSample")
def grid_sample(node: Node) -> Compute:
    """Pixels at the places that a grid names in [-1, 1], as torch defines it; cubic in two dimensions only."""
    get = node.attributes.get
    mode, outside = get("mode", "linear"), get("padding_mode", "zeros")
    if mode not in _MODES or outside not in ("zeros", "border", "reflection"):
        raise node.refused(f"mode {mode} with padding_mode {outside}")
    how, corners = _MODES[mode], bool(get("align_corners", 0))
    return lambda x, grid: F.grid_sample(x, grid, how, outside, corners)


@operator("DFT", host=(1, 2))
def fourier(node: Node) -> Compute:
    """Along one axis; the last dimension holds real parts alone, or real and imaginary parts.

    ``onesided`` leaves out the half of a real signal's spectrum that follows from the other; its inverse is real.
    """
    get = node.attributes.get
    inverse, half = bool(get("inverse", 0)), bool(get("onesided", 0))
    fixed = get("axis", 1) if node.opset < 20 else -2

    def run(x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
        along = (fixed if axis is None else int(axis.item())) % x.dim()
        count = None if length is None else int(length.item())
        signal = x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
        if inverse:
            if half:
                real: Tensor = torch.fft.irfft(signal, count, along)
                return real.unsqueeze(-1)
            return torch.view_as_real(torch.fft.ifft(signal, count, along).resolve_conj())
        if half and not signal.is_complex():
            return torch.view_as_real(torch.fft.rfft(signal, count, along).resolve_conj())
        spectrum = torch.fft.fft(signal, count, along)
        if half:
            spectrum = spectrum.narrow(along, 0, spectrum.shape[along] // 2 + 1)
        return torch.view_as_real(spectrum.resolve_conj())

    return run
