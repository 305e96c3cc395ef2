"""Numerical fingerprints of the authors' networks: weights by a formula over key names, one image, recorded outputs.

The figures in `fingerprints/` were computed once with the original implementations, filled with the weights that
`official_weights` draws. A network written from the paper that reproduces them is the same network.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

FOLDER = Path(__file__).with_name("fingerprints")
GOLDEN = 2654435769


def mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A 32-bit hash, all products modulo 2**32."""
    mask = np.uint64(0xFFFFFFFF)
    z = (z ^ (z >> np.uint64(16))) * np.uint64(0x7FEB352D) & mask
    z = (z ^ (z >> np.uint64(15))) * np.uint64(0x846CA68B) & mask
    return z ^ (z >> np.uint64(16))


def unit_draws(key: str, count: int) -> NDArray[np.float64]:
    """u in [0, 1) for the elements of the tensor named `key`."""
    index = np.arange(1, count + 1, dtype=np.uint64)
    return mix((np.uint64(zlib.crc32(key.encode())) + index * np.uint64(GOLDEN)) & np.uint64(0xFFFFFFFF)) / 2.0**32


def draw_tensor(key: str, shape: list[int], rule: dict[str, Any]) -> NDArray[Any]:
    """The values of one tensor under its official key and shape; the first rule that applies counts."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    count = int(np.prod(shape))
    u = unit_draws(key, count)
    v = 2.0 * u - 1.0
    affine = next(((a, b) for text, a, b in rule["affine"] if text in key), None)
    if key.endswith("running_mean"):
        values = rule["running_mean"] * v
    elif key.endswith("running_var"):
        values = rule["running_var"][0] + rule["running_var"][1] * u
    elif affine is not None:
        values = affine[0] + affine[1] * v
    elif len(shape) >= 2:
        gain = next((c for text, c in rule["gain_by_key"] if text in key), rule["gain"])
        values = (gain * np.sqrt(3.0 / (count / shape[0]))) * v
    elif key.endswith("bias"):
        values = rule["bias"] * v
    elif count == 1:
        values = 0.25 + 0.1 * v
    else:
        values = rule["norm_weight"][0] + rule["norm_weight"][1] * v
    return values.astype(np.float32).reshape(shape)


class Fingerprints:
    """The recorded figures of one file in `fingerprints/`, and what they were computed from."""

    def __init__(self, name: str) -> None:
        self.common = json.loads((FOLDER / "common.json").read_text())
        self.entries: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())

    def image(self) -> Tensor:
        """The input, (1, 3, 64, 96) float32 in [0, 1]."""
        return torch.from_numpy((self.levels() / 255.0).astype(np.float32))[None]

    def native_image(self, entry: str, dtype: torch.dtype) -> Tensor:
        """The input in the range of an entry's network, (1, 3, 64, 96): float32 values in `dtype`."""
        low, high = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}[
            self.entries[entry]["native_range"]
        ]
        native = self.levels() / 255.0 * (high - low) + low
        return torch.from_numpy(native.astype(np.float32))[None].to(dtype)

    def levels(self) -> NDArray[np.int64]:
        """The input as whole numbers from 0 to 255, (3, 64, 96)."""
        c, y, x = np.meshgrid(np.arange(3), np.arange(64), np.arange(96), indexing="ij")
        noise = mix(((x + 96 * y + 6144 * c + 1).astype(np.uint64) * np.uint64(GOLDEN)) & np.uint64(0xFFFFFFFF))
        levels = np.abs((3 * x + 5 * y + 40 * c) % 256 - 128) + (noise >> np.uint64(26)).astype(np.int64)
        levels += np.where((5 * x + y) % 37 < 3, 60, 0)
        facts = self.common["input"]
        assert (levels.sum(), levels.min(), levels.max()) == (
            facts["level_sum"],
            facts["level_min"],
            facts["level_max"],
        )
        assert all(levels[tuple(at)] == level for at, level in facts["level_at"])
        return levels

    def official_weights(self, entry: str) -> dict[str, Tensor]:
        """The authors' state dict filled by the formula; its hash is checked against the recorded one."""
        facts = self.entries[entry]
        digest = hashlib.sha256()
        state = {}
        for key, shape in facts["keys"]:
            values = draw_tensor(facts["aliases"].get(key, key), shape, facts["rule"])
            if not key.endswith("num_batches_tracked"):
                digest.update(values.astype("<f4").tobytes())
            state[key] = torch.from_numpy(values)
        assert digest.hexdigest() == facts["weights_sha256"], "the weights formula is not the recorded one"
        return state

    def deviation(self, entry: str, output: str, found: Tensor) -> float:
        """Largest distance of `found` (native units) to the record, relative to the output's largest value.

        Statistics and sixteen pixels are compared; a float64 tensor is held against the double-precision record.
        """
        facts = next(o for o in self.entries[entry]["outputs"] if o["name"] == output)
        record = facts["float64"] if found.dtype == torch.float64 else facts
        assert list(found.shape) == facts["shape"]
        where = torch.tensor(self.common["positions"]["x".join(map(str, found.shape[1:]))])
        values = found.detach().double()[0]
        pixels = values[where[:, 0], where[:, 1], where[:, 2]]
        largest = max(abs(record["min"]), abs(record["max"]))
        distances = [
            float((pixels - torch.tensor(record["values"], dtype=torch.float64)).abs().max()),
            abs(float(values.mean()) - record["mean"]),
            abs(float(values.std(unbiased=False)) - record["std"]),
            abs(float(values.min()) - record["min"]),
            abs(float(values.max()) - record["max"]),
        ]
        return max(distances) / largest

    def worst_deviation(self, entry: str, found: dict[str, Tensor]) -> float:
        """The largest `deviation` over all recorded outputs of an entry, each of which must be in `found`."""
        assert set(found) == {output["name"] for output in self.entries[entry]["outputs"]}
        return max(self.deviation(entry, name, image) for name, image in found.items())


@pytest.fixture
def real_pair(data_root: Path) -> Callable[[str], tuple[Tensor, Tensor]]:
    """Reads one Rain100H pair by name: rainy and clean, (1, 3, H, W) float32 in [0, 1]."""

    def read(name: str) -> tuple[Tensor, Tensor]:
        rainy, clean = (
            torch.from_numpy(np.asarray(Image.open(data_root / "rain100h" / kind / f"{name}.png")).copy())
            .permute(2, 0, 1)[None]
            .float()
            .div(255)
            for kind in ("rain", "norain")
        )
        return rainy, clean

    return read


@pytest.fixture(scope="session")
def fingerprints() -> type[Fingerprints]:
    """The class, to be called with the name of a file in `fingerprints/`."""
    return Fingerprints
