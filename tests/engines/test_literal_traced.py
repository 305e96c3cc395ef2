"""Networks exported by tracing, with the patterns that tracing leaves behind, against the modules that they were."""

from __future__ import annotations

import io
import warnings

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deploy_robust.engines.literal import LiteralEngine


class UNet(nn.Module):
    """Goes down and up; tracing writes the sizes as Shape, Gather, Concat, Slice, Resize."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.below = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x_padded = F.pad(x, [0, -width % 4, 0, -height % 4])
        first = F.leaky_relu(self.first(x_padded), 0.2)
        below = torch.relu(self.below(F.avg_pool2d(first, 2, ceil_mode=True)))
        up = F.interpolate(below, size=first.shape[-2:], mode="bilinear", align_corners=False)
        return x + self.last(torch.cat([first, up], 1))[..., :height, :width]


class WindowAttention(nn.Module):
    """Attention within windows of 4 x 4 pixels, of an image rolled by half a window."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, 8, 1), nn.LayerNorm(8)
        self.qkv, self.out, self.last = nn.Linear(8, 24), nn.Linear(8, 8), nn.Conv2d(8, 3, 1)
        self.bias = nn.Parameter(torch.randn(2, 16, 16) / 10)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.roll(self.embed(x), (-2, -2), (2, 3))
        n, c, h, w = z.shape
        windows = z.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        q, k, v = self.qkv(self.norm(windows)).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2 + self.bias, -1)
        windows = windows + self.out((weights @ v).transpose(1, 2).reshape(-1, 16, c))
        z = windows.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return x + self.last(torch.roll(z, (2, 2), (2, 3)))


class PixelShuffle(nn.Module):
    """Shuffles pixels down and up, scales channels by their mean, as channel attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.scale, self.last = nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = F.gelu(self.first(F.pixel_unshuffle(x, 2)))
        one, two = z.chunk(2, 1)
        z = torch.cat([one * two, F.normalize(two, dim=1)], 1)
        z = z * torch.sigmoid(self.scale(z.mean((2, 3), keepdim=True)))
        return x + F.pixel_shuffle(self.last(z), 2)


class Pyramid(nn.Module):
    """Halves by max pools, doubles by transposed convolutions, crops to the size of the other branch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up = nn.Conv2d(3, 6, 3, padding=1), nn.ConvTranspose2d(6, 6, 2, 2)
        self.norm, self.last = nn.InstanceNorm2d(6, affine=True), nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.hardswish(self.first(x))
        below = self.norm(F.max_pool2d(first, 3, 2, 1, ceil_mode=True))
        up = self.up(below)[:, :, : x.shape[2], : x.shape[3]]
        high = F.interpolate(up, scale_factor=2, mode="bicubic")
        return x + self.last(first + up + F.adaptive_avg_pool2d(high, 1))


def traced(net: nn.Module, opset: int) -> onnx.ModelProto:
    """The graph that tracing makes of a module, of any batch and size."""
    written = io.BytesIO()
    axes = {0: "n", 2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of itself, and of sizes that become constants
        torch.onnx.export(
            net, (torch.rand(1, 3, 16, 16),), written, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": axes, "y": axes}, opset_version=opset, dynamo=False,
        )  # fmt: skip
    return onnx.load_from_string(written.getvalue())


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("module", [UNet, WindowAttention, PixelShuffle, Pyramid])
def test_traced_networks_are_read_literally_with_their_gradients(module, opset):
    torch.manual_seed(0)
    net = module().eval().requires_grad_(False)
    engine = LiteralEngine(traced(net, opset))
    for shape in ((1, 3, 16, 16), (2, 3, 24, 20)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        ours, theirs = engine.run(x), net(x)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        weights = torch.rand(theirs.shape, generator=torch.Generator().manual_seed(2))
        slopes = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
        torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=1e-5)
