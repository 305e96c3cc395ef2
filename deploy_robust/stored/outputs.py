"""Outputs that were recorded on another machine, one file for each input of a set.

Every file of the set's ``inputs`` has its output under the same name: an 8-bit RGB image (``.png``, ``.ppm``), or an
array (``.npy``) of float32 in [0, 1], (H, W, 3) or (3, H, W). All are of one kind. See ``docs/recorded.md``.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch

from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.data.images import image_size, read_image, safe_text
from deploy_robust.errors import ImageError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.stored.adversarial_set import AdversarialSet, Input

Form = Literal["8bit", "float32"]

_SUFFIXES: dict[str, Form] = {".png": "8bit", ".ppm": "8bit", ".npy": "float32"}

TARGET = "target.txt"
"""May lie beside the outputs: what recorded them, in the words of whoever did."""

_LONGEST_TARGET = 2000
_LEVELS = 255.0


class RecordedOutputs:
    """The outputs, found by what they are the answer to.

    Attributes:
        folder: Where they lie.
        form: ``8bit`` or ``float32``.
        count: How many there are.
        sha256: Over the names and bytes of all files.
        target: What `TARGET` says; empty where it is not there.
        contradictions: Inputs that are equal in every pixel and were answered differently; the first answer counts.
    """

    def __init__(
        self, folder: Path, form: Form, files: Mapping[str, Path], hashes: Mapping[str, str], of: list[Input]
    ) -> None:
        self.folder = folder
        self.form = form
        self.count = len(files)
        total = "".join(f"{name}\0{sha256}\n" for name, sha256 in sorted(hashes.items()))
        self.sha256 = hashlib.sha256(total.encode()).hexdigest()
        self.target = _target(folder / TARGET)
        self._by_pixels: dict[str, Path] = {}
        answers: dict[str, set[str]] = {}
        for each in of:
            stem = _stem(each.file)
            self._by_pixels.setdefault(each.pixels, files[stem])
            answers.setdefault(each.pixels, set()).add(hashes[stem])
        self.contradictions = sum(len(found) > 1 for found in answers.values())

    @classmethod
    def open(cls, folder: Path, stored: AdversarialSet) -> Self:
        """Matches the files of a folder with the inputs of a set, and looks at the size of each.

        Raises:
            InputError: There is no such folder; a frame is missing, of another size, or of another kind than the
                others; or a file is there that answers no input. The message names the first and says how many.
        """
        where = safe_text(str(folder))
        if not folder.is_dir():
            raise InputError(f"{where}: no such folder: give the one that holds the recorded outputs")
        wanted = {_stem(each.file): each for each in stored.inputs()}
        files: dict[str, Path] = {}
        foreign: list[str] = []
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_dir() or path.name.startswith(".") or name == TARGET:
                continue
            if path.parent != folder or path.suffix not in _SUFFIXES or path.stem not in wanted:
                foreign.append(name)
            elif path.stem in files:
                raise InputError(
                    f"{where}: {safe_text(files[path.stem].name)} and {name} answer the same input: keep one"
                )
            else:
                files[path.stem] = path
        if missing := [stem for stem in wanted if stem not in files]:
            raise InputError(
                f"{where}: {len(missing)} of {len(wanted)} frames have no output, like {safe_text(missing[0])}.png: "
                f"record every file in {stored.name}/inputs, clean ones too; a frame on which the target fails is not "
                "left out but looked into"
            )
        if foreign:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise InputError(
                f"{where}: {safe_text(foreign[0])}{more} answers no input of the set {stored.name}: take it out, or "
                "name the set that these outputs were recorded for"
            )
        form = _one_form(where, files)
        for stem, each in wanted.items():
            if (size := _size(files[stem])) != each.size:
                raise ImageError(
                    f"{safe_text(str(files[stem]))}: is {size[0]}x{size[1]} (height x width) and its input "
                    f"{each.size[0]}x{each.size[1]}: record the whole output, cropped back where it was padded"
                )
        if form == "float32":
            _check_range(next(iter(files.values())))
        hashes = {stem: sha256_of(path) for stem, path in files.items()}
        return cls(folder, form, files, hashes, stored.inputs())

    def answer(self, pixels: str) -> Tensor:
        """The output (3, H, W) float32 to the input whose pixels have that hash.

        Raises:
            InputError: No input of the set has it, or the file cannot be read.
        """
        if pixels not in self._by_pixels:
            raise InputError(f"no output was recorded for an image with pixels {pixels[:12]}: it is not of the set")
        path = self._by_pixels[pixels]
        if self.form == "8bit":
            return torch.from_numpy(read_image(path)).permute(2, 0, 1).to(torch.float32) / 255
        values = _array(path)
        return torch.from_numpy(
            (values if values.shape[0] == 3 else values.transpose(2, 0, 1)).astype("<f4", order="C")
        )


def _stem(file: str) -> str:
    """A file's name without folder and suffix."""
    return PurePosixPath(file).stem


def _one_form(where: str, files: Mapping[str, Path]) -> Form:
    by_form: dict[Form, Path] = {}
    for path in files.values():
        by_form.setdefault(_SUFFIXES[path.suffix], path)
    if len(by_form) > 1:
        names = " and ".join(safe_text(path.name) for path in by_form.values())
        raise InputError(f"{where}: {names} are of different kinds: record all outputs as images, or all as .npy")
    return next(iter(by_form))


def _size(path: Path) -> tuple[int, int]:
    if path.suffix != ".npy":
        return image_size(path)
    shape = _array(path).shape
    return (shape[1], shape[2]) if shape[0] == 3 else (shape[0], shape[1])


def _array(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """An array (3, H, W) or (H, W, 3) of float32, in the file's own memory."""
    where = safe_text(str(path))
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{where}: damaged or no .npy file ({safe_text(str(error))}): record it again") from None
    if values.dtype != np.float32:
        raise ImageError(f"{where}: holds {values.dtype}: record float32 in [0, 1], or an 8-bit image")
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 3 or 3 not in (values.shape[0], values.shape[2]):
        raise ImageError(f"{where}: has shape {values.shape}: record (H, W, 3) or (3, H, W)")
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = values
    return found


def _check_range(path: Path) -> None:
    """Refuses an image in 0 to 255, as it would be to the eye; whatever else is wrong is for parity to say."""
    middle = float(np.nanmedian(_array(path)))
    if 2 < middle <= _LEVELS:
        raise ImageError(
            f"{safe_text(str(path))}: its values are those of 0 to 255 (half of them above {middle:.3g}): "
            "record floats in [0, 1], divided by 255"
        )


def _target(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        text = file.read(_LONGEST_TARGET).decode("utf-8", errors="replace")
    return safe_text(" ".join(text.split()))
