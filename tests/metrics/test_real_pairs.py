"""PSNR and SSIM of the real pairs against the figures of the shared data's README, measured without this code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from deploy_robust.metrics.psnr import psnr
from deploy_robust.metrics.ssim import ssim

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CASES = {
    "rain100h": (
        "Per image, PReNet6 clean",
        {
            "input PSNR RGB": lambda a, b: psnr(a, b, shave=0),
            "input PSNR RGB shave 8": psnr,
            "input SSIM RGB zero-pad": ssim,
        },
        20,
    ),
    "raincityscapes": (
        "Per image, RainCityscapes input",
        {
            "PSNR RGB": lambda a, b: psnr(a, b, shave=0),
            "PSNR RGB shave 8": psnr,
            "PSNR Y": lambda a, b: psnr(a, b, shave=0, luma=True),
            "SSIM RGB zero-pad": ssim,
            "SSIM RGB valid": lambda a, b: ssim(a, b, border="valid"),
        },
        10,
    ),
}

# Rows of the table of means, and the column that a folder stands for.
MEANS = {
    "PSNR, RGB, 7 px shaved": lambda a, b: psnr(a, b, shave=7),
    "PSNR, RGB, 8 px shaved": psnr,
    "PSNR, Y, no shave": lambda a, b: psnr(a, b, shave=0, luma=True),
    "PSNR, Y, 8 px shaved": lambda a, b: psnr(a, b, luma=True),
    "SSIM, RGB, zero padding, whole image": ssim,
    "SSIM, RGB, valid region (skimage, gaussian)": lambda a, b: ssim(a, b, border="valid"),
    "SSIM, Y, zero padding, whole image": lambda a, b: ssim(a, b, luma=True),
    "SSIM, Y, valid region (MATLAB ssim_index style)": lambda a, b: ssim(a, b, luma=True, border="valid"),
}
COLUMNS = {"rain100h": "Rain100H, 20 here", "raincityscapes": "RainCityscapes, 10 here"}


def table(root: Path, heading: str) -> dict[str, dict[str, float]]:
    """Rows of the first table below a heading: first cell to {column title: number}."""
    lines = iter((root / "README.md").read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith("#") and heading in line)
    titles: list[str] = []
    rows: dict[str, dict[str, float]] = {}
    for line in lines:
        if line.startswith("|"):
            cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
            if not titles:
                titles = cells
            elif not set(cells[0]) <= {"-", " "}:
                rows[cells[0]] = {t: float(c) for t, c in zip(titles[1:], cells[1:], strict=True) if _is_number(c)}
        elif titles or line.startswith("#"):
            break
    return rows


def load(path: Path) -> Tensor:
    """An 8-bit RGB file as (1, 3, H, W) float32 in [0, 1]."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def tolerance(title: str) -> float:
    """1e-3 dB or 1e-4 SSIM, and the digit that the table rounds away."""
    return 1e-3 if "PSNR" in title else 1e-4


@pytest.mark.parametrize("folder", CASES)
def test_every_pair_has_the_measured_scores(data_root, folder):
    heading, columns, count = CASES[folder]
    rows = table(data_root, heading)
    assert len(rows) == count
    for name, row in rows.items():
        rain = load(data_root / folder / "rain" / f"{name}.png")
        norain = load(data_root / folder / "norain" / f"{name}.png")
        for title, metric in columns.items():
            assert metric(rain, norain).item() == pytest.approx(row[title], abs=tolerance(title)), (name, title)


@pytest.mark.parametrize("folder", CASES)
def test_means_over_a_folder_in_every_protocol(data_root, folder):
    expected = table(data_root, "Metric convention of the paper")
    names = sorted(path.name for path in (data_root / folder / "rain").glob("*.png"))
    pairs = [(load(data_root / folder / "rain" / n), load(data_root / folder / "norain" / n)) for n in names]
    for title, metric in MEANS.items():
        mean = torch.cat([metric(a, b) for a, b in pairs]).mean().item()
        assert mean == pytest.approx(expected[title][COLUMNS[folder]], abs=tolerance(title)), title
