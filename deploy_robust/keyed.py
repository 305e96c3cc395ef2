"""Random draws keyed by what they are for, never by the order of execution.

A draw depends only on the run seed and the parts of its key (pair, attack, epsilon, restart, ...): its bits are the
same however cases are batched, sharded or resumed. The generator is Philox 4x64 (Salmon et al., SC 2011) of NumPy;
only its raw 64-bit words are used for perturbations, because NumPy promises to keep those for ever.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Part = str | int | float
"""One part of a key. ``1`` and ``"1"`` are different parts."""


def philox(seed: int, *parts: Part) -> np.random.Philox:
    """The counter-based bit generator for one purpose; its 128-bit key is a hash of all parts."""
    text = "\x1f".join(f"{type(part).__name__}:{part!r}" for part in (seed, *parts))
    digest = hashlib.blake2b(text.encode(), digest_size=16, person=b"deploy-robust").digest()
    return np.random.Philox(key=np.frombuffer(digest, dtype="<u8"))


def generator(seed: int, *parts: Part) -> np.random.Generator:
    """A NumPy generator over `philox`: for drawing scenes and augmentations."""
    return np.random.Generator(philox(seed, *parts))


def uniform(seed: int, *parts: Part, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Uniform float32 draws in [-1, 1), each a multiple of 2**-23."""
    count = math.prod(shape)
    words = philox(seed, *parts).random_raw((count + 1) // 2).view(np.uint32)[:count]
    return ((words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)).reshape(shape)


def sign_bits(seed: int, *parts: Part, count: int) -> NDArray[np.uint8]:
    """So many fair bits, eight in a byte, lowest first; bits beyond `count` in the last byte are undefined."""
    return philox(seed, *parts).random_raw((count + 63) // 64).view(np.uint8)[: (count + 7) // 8]


def signs(seed: int, *parts: Part, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Independent fair signs, -1 or +1, one bit of the stream each."""
    count = math.prod(shape)
    bits = np.unpackbits(sign_bits(seed, *parts, count=count), count=count, bitorder="little")
    return (bits.astype(np.int8) * np.int8(2) - np.int8(1)).reshape(shape)
