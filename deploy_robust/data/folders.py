"""Pairs from folders: rainy images and their ground truth, matched by file name."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_robust.data.images import IMAGE_SUFFIXES, image_size, read_image, safe_text
from deploy_robust.data.pairs import Pair
from deploy_robust.errors import ImageError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYOUTS = (("rain", "norain"), ("rainy", "clean"), ("input", "target"))
"""Names of the two subfolders that `FolderSource.open` knows, rainy images first."""


class FolderSource:
    """Pairs from two folders (or rainy images from one), also in subfolders, in the order of their names.

    A rainy image and its ground truth have the same path below their folders, up to the suffix. That path without
    suffix is the pair's id, with control characters escaped (see `deploy_robust.data.images.safe_text`); it is safe to
    print, and whoever writes it into HTML escapes it. Hidden files and files that are no images by their suffix are not
    looked at. Every pair counts as a scene of its own.

    All headers are checked at once, so that a long run does not stop at its last image.

    Args:
        rainy: Folder of the rainy images.
        clean: Folder of the ground truth; None for real rain without one.

    Raises:
        InputError: A folder is missing or holds no image, or two files differ only in their suffix.
        ImageError: An image has no partner or one of another size, or cannot be used (see `read_image`).
    """

    def __init__(self, rainy: str | Path, clean: str | Path | None) -> None:
        self._rainy_folder = Path(rainy)
        self._clean_folder = None if clean is None else Path(clean)
        rainy_files = _images(self._rainy_folder)
        clean_files = None if self._clean_folder is None else _images(self._clean_folder)
        if clean_files is not None and self._clean_folder is not None:
            _check_partners(rainy_files, self._clean_folder, clean_files)
            _check_partners(clean_files, self._rainy_folder, rainy_files)
        self._files = [(file, None if clean_files is None else clean_files[stem]) for stem, file in rainy_files.items()]
        self._ids = [safe_text(stem) for stem in rainy_files]
        for rainy_file, clean_file in self._files:
            _check_sizes(rainy_file, clean_file)

    @classmethod
    def open(cls, folder: str | Path, *, unpaired: bool = False) -> FolderSource:
        """A folder in one of the common layouts.

        Args:
            folder: With subfolders ``rain`` and ``norain``, ``rainy`` and ``clean``, or ``input`` and ``target``; where
                `unpaired` is given, the first of these or the folder itself holds the rainy images.
            unpaired: Read rainy images only; ground truth that is there is not used.

        Raises:
            InputError: The folder is missing or has another layout; and as for the class.
        """
        folder = Path(folder)
        _check_folder(folder)
        for rainy, clean in LAYOUTS:
            if (folder / rainy).is_dir() and unpaired:
                return cls(folder / rainy, None)
            if (folder / rainy).is_dir() and (folder / clean).is_dir():
                return cls(folder / rainy, folder / clean)
        if unpaired:
            return cls(folder, None)
        known = ", ".join(f"{rainy}/ and {clean}/" for rainy, clean in LAYOUTS)
        raise InputError(
            f"{safe_text(str(folder))}: no ground truth found: expected subfolders {known}; "
            "rename yours, or say --unpaired for real rain without ground truth"
        )

    @property
    def name(self) -> str:
        """The folder's name; of a subfolder in a common layout, its parent's."""
        folder = self._rainy_folder.resolve()
        inside_layout = any(folder.name == rainy for rainy, _ in LAYOUTS)
        return safe_text(folder.parent.name if inside_layout and folder.parent.name else folder.name)

    @property
    def paired(self) -> bool:
        """Whether a folder of ground truth was given."""
        return self._clean_folder is not None

    @property
    def identity(self) -> Mapping[str, str | int | float | bool | None]:
        """Number of pairs and one hash over the names and bytes of all files; it does not depend on where they lie."""
        return {"source": "folder", "paired": self.paired, "count": len(self), "files": self._files_hash}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self._files):
            raise IndexError(f"pair {index} of {len(self._files)}")
        rainy_file, clean_file = self._files[index]
        rainy = read_image(rainy_file)
        clean = None if clean_file is None else read_image(clean_file)
        return Pair(id=self._ids[index], rainy=rainy, clean=clean, scene=self._ids[index])

    def ids(self) -> list[str]:
        """The ids in order."""
        return list(self._ids)

    @cached_property
    def _files_hash(self) -> str:
        total = hashlib.sha256()
        for name, files in zip(self._ids, self._files, strict=True):
            hashes = ["none" if file is None else hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
            total.update(f"{name}\0{hashes[0]}\0{hashes[1]}\n".encode())
        return total.hexdigest()


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise InputError(f"{safe_text(str(folder))}: no such folder: check the path")
    if not folder.is_dir():
        raise InputError(f"{safe_text(str(folder))}: not a folder: give the folder that holds the images")


def _images(folder: Path) -> dict[str, Path]:
    """Image files by their path below the folder without suffix, in order."""
    _check_folder(folder)
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file() or relative.name.startswith("."):
            continue
        stem = relative.with_suffix("").as_posix()
        if stem in files:
            raise InputError(
                f"{safe_text(str(folder))}: {safe_text(files[stem].name)} and {safe_text(path.name)} differ only in "
                "their suffix: keep one of them"
            )
        files[stem] = path
    if not files:
        raise InputError(
            f"{safe_text(str(folder))}: holds no image: expected files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    return files


def _check_partners(files: dict[str, Path], other: Path, partners: dict[str, Path]) -> None:
    for stem, file in files.items():
        if stem not in partners:
            raise ImageError(
                f"{safe_text(str(file))}: has no partner in {safe_text(str(other))}: "
                f"expected {safe_text(stem)} with an image suffix there; add it or remove this one"
            )


def _check_sizes(rainy: Path, clean: Path | None) -> None:
    rainy_size = image_size(rainy)
    if clean is None:
        return
    clean_size = image_size(clean)
    if rainy_size != clean_size:
        raise ImageError(
            f"{safe_text(str(rainy))}: is {rainy_size[0]}x{rainy_size[1]} (height x width) and its ground truth "
            f"{safe_text(str(clean))} {clean_size[0]}x{clean_size[1]}: both of a pair need the same size"
        )
