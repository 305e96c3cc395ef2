"""An adversarial set as it lies on the disk: read, and held against its hashes."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.data.images import read_image, safe_text
from deploy_robust.errors import InputError
from deploy_robust.gate.records import digest_of_image
from deploy_robust.stored.index import INDEX, SUMS, SetIndex, StoredCase, StoredPair

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_REMEDY = "copy the set again, or craft it again with `deploy-robust attack`"


class Input(NamedTuple):
    """An image that an engine is to answer.

    Attributes:
        file: Its name below the set.
        pixels: SHA-256 of its shape and values.
        size: (height, width).
    """

    file: str
    pixels: str
    size: tuple[int, int]


class AdversarialSet:
    """A set; images are read when they are asked for, and are then what the index says, or an error.

    Attributes:
        folder: Where it lies.
        index: What it holds.
        sha256: SHA-256 of the index, which holds the hash of every other file: what the set is known by.
    """

    def __init__(self, folder: Path, index: SetIndex, sha256: str) -> None:
        self.folder = folder
        self.index = index
        self.sha256 = sha256

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the index.

        Raises:
            InputError: There is no set, or its index is damaged or of another version.
        """
        path = folder / INDEX
        if not path.is_file():
            raise InputError(
                f"{safe_text(str(folder))} is no adversarial set: it holds no {INDEX}; `deploy-robust attack` makes one"
            )
        content = path.read_bytes()
        index = SetIndex.from_bytes(content, safe_text(str(path)))
        return cls(folder, index, hashlib.sha256(content).hexdigest())

    @property
    def name(self) -> str:
        """The folder's name."""
        return safe_text(self.folder.resolve().name)

    @property
    def paired(self) -> bool:
        """Whether every pair has ground truth."""
        return all(pair.truth is not None for pair in self.index.pairs)

    def inputs(self) -> list[Input]:
        """Every image that an engine is to answer, clean ones first."""
        sizes = {pair.id: pair.size for pair in self.index.pairs}
        return [
            *(Input(pair.input, pair.pixels, pair.size) for pair in self.index.pairs),
            *(Input(case.input, case.pixels, sizes[case.pair]) for case in self.index.cases),
        ]

    def verify(self) -> None:
        """Holds every file against its hash.

        Raises:
            InputError: A file is missing, changed, or not of the set; the message names it.
        """
        expected = self.index.files
        found = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir()}
        if missing := sorted(expected.keys() - found):
            raise self._error(missing, "missing")
        if foreign := sorted(found - expected.keys() - {INDEX, SUMS}):
            raise self._error(foreign, "not of the set: take it out", remedy="")
        changed = [name for name, sha256 in expected.items() if sha256_of(self.folder / name) != sha256]
        if SUMS not in found or (self.folder / SUMS).read_bytes() != self.index.sums():
            changed.append(SUMS)
        if changed:
            raise self._error(changed, "changed (another SHA-256 than the index says)")

    def clean(self, pair: StoredPair) -> NDArray[np.uint8]:
        """The rainy image (H, W, 3) uint8 of a pair.

        Raises:
            InputError: It is not what the index says.
        """
        return self._image(pair.input, pair.pixels)

    def truth(self, pair: StoredPair) -> NDArray[np.uint8] | None:
        """Its ground truth of the same shape, where there is one."""
        return None if pair.truth is None else read_image(self.folder / pair.truth)

    def attacked(self, case: StoredCase) -> NDArray[np.uint8]:
        """An attacked image (H, W, 3) uint8.

        Raises:
            InputError: It is not what the index says.
        """
        return self._image(case.input, case.pixels)

    def case(self, pair: str, attack: str, level: float) -> StoredCase:
        """The case of that name.

        Raises:
            InputError: The set does not hold it.
        """
        try:
            return self._cases[pair, attack, level]
        except KeyError:
            raise InputError(f"the set {self.name} holds no {attack} at {level:g}/255 on {pair}") from None

    @cached_property
    def _cases(self) -> dict[tuple[str, str, float], StoredCase]:
        return {(case.pair, case.attack, case.level): case for case in self.index.cases}

    def _image(self, name: str, pixels: str) -> NDArray[np.uint8]:
        image = read_image(self.folder / name)
        if digest_of_image(image) != pixels:
            raise self._error([name], "changed (other pixels than the index says)")
        return image

    def _error(self, names: list[str], what: str, remedy: str = _REMEDY) -> InputError:
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        first = safe_text(names[0])
        return InputError(": ".join(filter(None, [f"set {self.name}: {first}{more} is {what}", remedy])))
