"""Writing an adversarial set: whole under its name, or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deploy_robust.artefact.files import make_folder
from deploy_robust.data.images import safe_text
from deploy_robust.errors import InputError, RunError
from deploy_robust.gate.rows import to_png
from deploy_robust.stored import labels
from deploy_robust.stored.adversarial_set import AdversarialSet
from deploy_robust.stored.index import INDEX, INPUTS, LABELS, SUMS, TRUTH, SetIndex, StoredCase, StoredPair
from deploy_robust.stored.names import input_name, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deploy_robust.data.pairs import Pair, PairSource
    from deploy_robust.gate.records import Case


_OPTIONAL = (TRUTH, LABELS)
"""Folders that a set has only where they hold something."""


class Images(Protocol):
    """Where crafted images come from: the store of a run."""

    def image(self, sha256: str) -> NDArray[np.uint8]:
        """An image (H, W, 3) uint8 by its SHA-256."""
        ...

    def png(self, sha256: str) -> bytes:
        """The same, as the bytes of a PNG file."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What was crafted for one case.

    Attributes:
        pixels: SHA-256 of the image.
        facts: What the attack observed.
    """

    pixels: str
    facts: Mapping[str, float]


def refuse_other(folder: Path, plan: str) -> None:
    """Refuses a folder that holds anything but the set of that plan, before hours are spent.

    Raises:
        InputError: It does.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / INDEX).is_file():
        raise InputError(f"{safe_text(str(folder))} is there and is no adversarial set: name another with --out")
    if AdversarialSet.read(folder).index.plan != plan:
        raise InputError(
            f"{safe_text(str(folder))} holds a set that was crafted otherwise: name another with --out, or remove it"
        )


def write_set(
    folder: Path,
    index: SetIndex,
    pairs: PairSource,
    clean: Mapping[str, str],
    found: Mapping[Case, Found],
    images: Images,
) -> AdversarialSet:
    """Writes a set; one that is there and is the same is left as it is.

    Args:
        folder: Its folder.
        index: What is known of it but its pairs, cases and files.
        pairs: Where the ground truth comes from.
        clean: Pair id to the SHA-256 of the rainy image's pixels, in order.
        found: What was crafted, in order.
        images: The crafted images, and the rainy ones.

    Raises:
        InputError: The folder cannot be written, or holds something else.
        RunError: A crafted image lies outside its ball: that would be our own fault.
    """
    refuse_other(folder, index.plan)
    by_pair: dict[str, list[Case]] = {id_: [] for id_ in clean}
    for case in found:
        by_pair[case.pair].append(case)
    files: dict[str, str] = {}
    stored_pairs: list[StoredPair] = []
    stored_cases: list[StoredCase] = []
    with _whole(folder) as draft:

        def keep(name: str, content: bytes) -> str:
            _write(draft / name, content)
            files[name] = hashlib.sha256(content).hexdigest()
            return name

        for number, id_ in enumerate(pairs.ids()):
            pair = pairs[number]
            name = keep(f"{INPUTS}/{input_name(id_)}", images.png(clean[id_]))
            truth = None if pair.clean is None else keep(f"{TRUTH}/{quoted(id_)}.png", to_png(pair.clean))
            classes = pair.labels.classes
            labelled = None if classes is None else keep(f"{LABELS}/{quoted(id_)}.png", labels.to_png(classes))
            marked = labels.to_index(pair.labels, labelled)
            stored_pairs.append(StoredPair(id_, pair.scene, pair.size, name, clean[id_], truth, marked))
            for case in by_pair[id_]:
                name = f"{INPUTS}/{input_name(id_, case.attack, case.level)}"
                stored_cases.append(_measured(case, found[case], name, pair, images, index))
                keep(name, images.png(found[case].pixels))
        whole = replace(index, pairs=tuple(stored_pairs), cases=tuple(stored_cases), files=files)
        _write(draft / SUMS, whole.sums())
        _write(draft / INDEX, whole.to_bytes())
        if (folder / INDEX).is_file():
            return _same(folder, whole)
    return AdversarialSet.read(folder)


def _same(folder: Path, index: SetIndex) -> AdversarialSet:
    """The set that is there already, if it is the same to the byte."""
    there = AdversarialSet.read(folder)
    there.verify()
    if there.sha256 != hashlib.sha256(index.to_bytes()).hexdigest():
        raise InputError(f"{safe_text(str(folder))} holds another set: name another with --out, or remove it")
    return there


def _measured(case: Case, found: Found, name: str, pair: Pair, images: Images, index: SetIndex) -> StoredCase:
    apart = images.image(found.pixels).astype(np.int16) - pair.rainy.astype(np.int16)
    largest, rms = int(np.abs(apart).max()), float(np.sqrt(np.square(apart, dtype=np.float64).mean()))
    by_rms = index.attacks[case.attack].settings.get("norm") == "l2"
    in_ball = (rms if by_rms else largest) <= case.level
    if not in_ball and not by_rms:
        raise RunError(f"the image crafted for {case} lies outside its ball ({largest} grey levels): report this")
    share = float((apart != 0).any(2).mean())
    return StoredCase(case.pair, case.attack, case.level, name, found.pixels, largest, rms, share, in_ball, found.facts)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, which takes its name at the end, unless there is one of that name."""
    make_folder(folder.parent)
    draft = folder.with_name(f".{folder.name}.draft")  # one run folder makes it, and that is locked
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for name in (INPUTS, *_OPTIONAL):
            make_folder(draft / name)
        yield draft
        _empty_folders_go(draft, _OPTIONAL)
        if not (folder / INDEX).is_file():
            _sync(draft)
            draft.replace(folder)
            _sync(folder.parent)
    except OSError as error:
        raise InputError(
            f"cannot write the set {safe_text(str(folder))}: {error.strerror}; make room or name another with --out, "
            "and repeat the command"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _empty_folders_go(draft: Path, names: Sequence[str]) -> None:
    for name in names:
        if not any((draft / name).iterdir()):
            (draft / name).rmdir()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
