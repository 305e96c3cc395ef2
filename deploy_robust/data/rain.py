"""Synthetic rain for any clean image: layers of motion-blurred streaks under a thin veil.

The image model is the usual one of single-image deraining (Li et al., CVPR 2016, "Rain streak removal using
layer priors"; Hu et al., CVPR 2019, for the veil that grows with depth)::

    B     = clean * (1 - v) + air * v            v = veil * (1 - exp(-depth / VEIL_DISTANCE))
    rainy = B * (1 - s) + light * s              s = min(1, sum of streaks): the opacity of the rain at a pixel

Streaks are drawn one by one as soft lines, so every streak has its own length, angle and opacity. Far layers hold more,
shorter, thinner and fainter streaks than near ones, and where a depth map is known they fall behind near objects.
Angle, density, length and opacity also vary from image to image. Most of the error is streaks, not haze.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Range = tuple[float, float]
"""Lowest and highest value; each image (or streak) draws uniformly between them."""

RAIN_VERSION = 1
"""Raised whenever the same key and settings would draw other rain."""

VEIL_DISTANCE = 80.0
"""Distance in metres at which the veil has reached 63 % of its full opacity."""

LAYER_DISTANCE = 2.0
"""Distance in metres of the second layer of streaks; the first is right before the lens, each further one doubles."""

_STEP = 0.5
"""Spacing in pixels of the samples along a streak: at most half a pixel, so that no streak looks dotted."""


@dataclass(frozen=True, slots=True)
class RainSettings:
    """How the rain looks. Lengths are in pixels of the image, whatever its size.

    Attributes:
        density: Streaks for each 1000 pixels, all layers together; drawn for each image.
        length: Length of the streaks of the nearest layer, pixels; drawn for each image.
        width: Full width at half maximum of the nearest layer's streaks, pixels.
        angle: Direction of fall, degrees from the vertical, positive to the right; drawn for each image.
        opacity: Peak opacity of the nearest layer's streaks, 0 to 1; drawn for each image.
        light: Grey level of the light that streaks scatter, 0 to 255; drawn for each image.
        veil: Opacity of the veil at infinite depth, 0 to 1; drawn for each image. Without depth it holds everywhere.
        layers: Number of depth layers.
        angle_spread: Standard deviation of a streak's angle around the image's, degrees.
        length_spread: A streak's length is the layer's times a uniform draw from ``1 -`` to
            ``1 + length_spread``.
        falloff: Length, width and opacity of a layer relative to the next nearer one, 0 to 1.

    Raises:
        UsageError: A value is outside its range.
    """

    density: Range = (13.0, 22.0)
    length: Range = (18.0, 34.0)
    width: Range = (1.1, 1.7)
    angle: Range = (-28.0, 28.0)
    opacity: Range = (0.46, 0.78)
    light: Range = (215.0, 250.0)
    veil: Range = (0.0, 0.12)
    layers: int = 3
    angle_spread: float = 2.0
    length_spread: float = 0.4
    falloff: float = 0.8

    def __post_init__(self) -> None:
        limits = {
            "density": (0.0, 1000.0),
            "length": (1.0, 1000.0),
            "width": (0.5, 50.0),
            "angle": (-80.0, 80.0),
            "opacity": (0.0, 1.0),
            "light": (0.0, 255.0),
            "veil": (0.0, 1.0),
        }
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise UsageError(f"rain {name}=({low}, {high}): give (low, high) with {least} <= low <= high <= {most}")
        if self.layers < 1:
            raise UsageError(f"rain layers={self.layers}: at least 1")
        if not 0.0 <= self.length_spread < 1.0 or not 0.0 < self.falloff <= 1.0 or self.angle_spread < 0.0:
            raise UsageError(
                "rain: length_spread in [0, 1), falloff in (0, 1] and angle_spread >= 0 "
                f"(got {self.length_spread}, {self.falloff}, {self.angle_spread})"
            )

    def digest(self) -> str:
        """Sixteen hexadecimal digits that name these settings, for a source's identity."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:16]


def add_rain(
    clean: NDArray[np.uint8],
    rng: np.random.Generator,
    settings: RainSettings | None = None,
    *,
    depth: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Let it rain on an image.

    Args:
        clean: (H, W, 3) uint8 RGB.
        rng: Where the draws come from; see `deploy_robust.keyed.generator`.
        settings: How the rain looks; None takes the defaults, tuned to a mean input PSNR of 17 to 20 dB.
        depth: Distance of each pixel in metres, (H, W) float32; None puts every pixel behind all layers.

    Returns:
        The rainy image, (H, W, 3) uint8, rounded to nearest.

    Raises:
        UsageError: The image is not (H, W, 3) uint8, or the depth map has another size.
    """
    if clean.dtype != np.uint8 or clean.ndim != 3 or clean.shape[2] != 3:
        raise UsageError(f"rain falls on (H, W, 3) uint8 images only (got {clean.shape} {clean.dtype})")
    if depth is not None and depth.shape != clean.shape[:2]:
        raise UsageError(f"depth map is {depth.shape} and the image {clean.shape[:2]}: give one of the same size")
    settings = settings if settings is not None else RainSettings()

    veil = rng.uniform(*settings.veil)
    light = np.float32(rng.uniform(*settings.light))
    streaks = _streaks(clean.shape[0], clean.shape[1], rng, settings, depth)[..., None]

    image = clean.astype(np.float32)
    haze = (
        np.float32(veil) if depth is None else (veil * -np.expm1(-depth[..., None] / VEIL_DISTANCE)).astype(np.float32)
    )
    air = np.float32(0.85) * light
    image += (air - image) * haze
    image += (light - image) * streaks
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _streaks(
    height: int, width: int, rng: np.random.Generator, settings: RainSettings, depth: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Opacity of all streaks, (H, W) float32 in [0, 1]."""
    angle = rng.uniform(*settings.angle)
    density = rng.uniform(*settings.density)
    length = rng.uniform(*settings.length)
    opacity = rng.uniform(*settings.opacity)
    thickness = rng.uniform(*settings.width)

    scales = settings.falloff ** np.arange(settings.layers)
    shares = 1.0 / scales**2
    shares /= shares.sum()
    total = np.zeros((height, width), dtype=np.float64)
    for layer, (scale, share) in enumerate(zip(scales, shares, strict=True)):
        # Streaks whose middle lies outside still reach in, so the field is wider than the image by one streak.
        margin = length * scale
        area = (height + 2 * margin) * (width + 2 * margin)
        count = int(rng.poisson(density * share * area / 1000.0))
        middles = rng.random((count, 2)) * (height + 2 * margin, width + 2 * margin) - margin
        angles = np.deg2rad(angle + settings.angle_spread * rng.standard_normal(count))
        lengths = length * scale * rng.uniform(1 - settings.length_spread, 1 + settings.length_spread, count)
        opacities = opacity * scale * rng.uniform(0.5, 1.0, count)
        drawn = _soft_lines(height, width, middles, angles, lengths, opacities, max(1.0, thickness * scale))
        if depth is not None and layer > 0:
            drawn *= depth > LAYER_DISTANCE * 2.0 ** (layer - 1)
        total += drawn
    return np.minimum(total, 1.0).astype(np.float32)


def _soft_lines(
    height: int,
    width: int,
    middles: NDArray[np.float64],
    angles: NDArray[np.float64],
    lengths: NDArray[np.float64],
    opacities: NDArray[np.float64],
    thickness: float,
) -> NDArray[np.float64]:
    """Lines with soft ends and a triangular or wider profile, splatted bilinearly and summed.

    Args:
        height: Rows of the result.
        width: Columns of the result.
        middles: Row and column of each line's middle, (n, 2), pixels.
        angles: Direction of each line, (n,), radians from the vertical.
        lengths: (n,), pixels.
        opacities: Peak value of each line, (n,).
        thickness: Full width at half maximum, pixels, at least 1.

    Returns:
        (H, W) float64; a long line's core adds up to its opacity.
    """
    if not len(lengths):
        return np.zeros((height, width))
    samples = int(np.ceil(lengths.max() / _STEP)) + 1
    along = np.linspace(-0.5, 0.5, samples)
    # A bilinear splat is a triangle of full width 1 at half maximum; parallel copies widen it.
    copies = max(1, int(np.ceil((thickness - 1.0) / 0.5)) + 1)
    across = np.linspace(-0.5, 0.5, copies) * (thickness - 1.0) if copies > 1 else np.zeros(1)

    sin, cos = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    t = lengths[:, None, None] * along[None, :, None]  # (n, samples, 1)
    u = across[None, None, :]  # (1, 1, copies)
    rows = middles[:, 0, None, None] + t * cos - u * sin
    columns = middles[:, 1, None, None] + t * sin + u * cos
    # Each sample stands for `spacing` pixels of line; dividing by the copies' overlap keeps the core at the opacity.
    spacing = lengths / (samples - 1)
    weight = (opacities * spacing / max(1.0, copies / thickness))[:, None, None] * (
        1.0 - (2.0 * along[None, :, None]) ** 4
    )
    weight = np.broadcast_to(weight, rows.shape)

    inside = (rows > -1) & (rows < height) & (columns > -1) & (columns < width)
    rows, columns, weight = rows[inside], columns[inside], weight[inside]
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    down, right = rows - top, columns - left
    stride = width + 2  # one pixel of border takes what falls just outside
    cell = (top + 1) * stride + (left + 1)
    flat = np.zeros((height + 2) * stride)
    for offset, share in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (stride, down * (1 - right)),
        (stride + 1, down * right),
    ):
        flat += np.bincount(cell + offset, weights=weight * share, minlength=flat.size)
    return flat.reshape(height + 2, stride)[1:-1, 1:-1]
