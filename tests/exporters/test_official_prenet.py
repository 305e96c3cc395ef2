"""The official PReNet weights, on real images: restored as their publication says, and exported as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from deploy_robust.app.export import export
from deploy_robust.app.pairs import PairsRequest
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.onnxruntime import KIND
from deploy_robust.metrics.psnr import psnr
from deploy_robust.metrics.ssim import ssim
from deploy_robust.models.checkpoints import load_official
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.models.derainer import Derainer

# PSNR (8 border pixels removed) and SSIM (zero padding) of the output rounded to 8 bits, from the shared data's README.
FIGURES = {"norain-15": (36.8561, 0.9639), "norain-50": (32.3420, 0.9371)}
MEANS = (28.527, 0.8981)


def load(path: Path) -> Tensor:
    """An 8-bit RGB file as (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def prenet(data_root: Path) -> Derainer:
    return load_official("prenet", "official", data_root / "checkpoints" / "prenet6_rain100h.pth")[0]


def scores(net: Any, root: Path, name: str) -> tuple[float, float]:
    """PSNR and SSIM of one restored image, in the paper's protocol."""
    rainy, truth = (load(root / "rain100h" / kind / f"{name}.png") for kind in ("rain", "norain"))
    with torch.inference_mode():
        restored = net(rainy)
    return psnr(restored, truth).item(), ssim(restored, truth).item()


@pytest.mark.parametrize("name", FIGURES)
def test_an_image_is_restored_as_well_as_with_the_originals_code(prenet: Derainer, data_root: Path, name: str) -> None:
    found = scores(prenet, data_root, name)
    assert found[0] == pytest.approx(FIGURES[name][0], abs=0.01)
    assert found[1] == pytest.approx(FIGURES[name][1], abs=2e-4)


@pytest.mark.slow
def test_the_twenty_images_are_restored_as_well_as_with_the_originals_code(prenet: Derainer, data_root: Path) -> None:
    names = sorted(path.stem for path in (data_root / "rain100h" / "rain").glob("*.png"))
    found = np.array([scores(prenet, data_root, name) for name in names])
    assert len(found) == 20
    mean_psnr, mean_ssim = found.mean(axis=0)
    print(f"official PReNet on 20 images: {mean_psnr:.4f} dB, SSIM {mean_ssim:.4f}")  # noqa: T201
    assert mean_psnr == pytest.approx(MEANS[0], abs=0.01)
    assert mean_ssim == pytest.approx(MEANS[1], abs=1e-4)


@pytest.mark.slow
def test_the_exported_graph_agrees_with_torch_at_other_sizes(prenet: Derainer, data_root: Path, tmp_path: Path) -> None:
    (made,) = export(
        tmp_path,
        checkpoint=data_root / "checkpoints" / "prenet6_rain100h.pth",
        model="prenet",
        preset="official",
        precisions=["fp32"],
        pairs=PairsRequest("scenes", split="calibration", size=(64, 80)),
        calibration_count=1,
    )
    engine = Restorer(*KIND.open(made.path, EngineOptions()))
    image = load(data_root / "rain100h" / "rain" / "norain-15.png")
    image = image if image.shape[-2:] == (321, 481) else image.transpose(2, 3)
    for height, width in ((321, 481), (97, 61)):
        x = image[..., :height, :width].contiguous()
        with torch.inference_mode():
            apart = (engine(x) - prenet(x)).abs().max().item()
        print(f"{height}x{width}: {apart:.2e}")  # noqa: T201
        assert apart <= 1e-5
