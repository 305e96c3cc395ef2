"""Names, the index, and what recorded outputs must look like."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deploy_robust.data.pairs import Box, Labels, Pair, iterate
from deploy_robust.errors import InputError
from deploy_robust.gate.records import Case, digest_of_image
from deploy_robust.gate.rows import to_png
from deploy_robust.stored.adversarial_set import AdversarialSet
from deploy_robust.stored.index import SetIndex, StoredAttackRecord
from deploy_robust.stored.names import input_name
from deploy_robust.stored.outputs import RecordedOutputs
from deploy_robust.stored.source import SetSource
from deploy_robust.stored.writing import Found, write_set

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

PARTS = st.tuples(st.text(min_size=1), st.none() | st.text(min_size=1), st.integers(1, 254).map(float))


@given(first=PARTS, second=PARTS)
def test_names_are_safe_and_no_two_cases_share_one(first: tuple, second: tuple) -> None:  # type: ignore[type-arg]
    name = input_name(*first)
    assert re.fullmatch(r"[A-Za-z0-9_~%-][A-Za-z0-9_.~%+-]*\.png", name)
    assert len(name.encode()) < 255
    same = first[:2] == second[:2] and (first[1] is None or first[2] == second[2])
    assert (input_name(*second) == name) == same


class Pairs:
    """Two pairs, one of which has a name that no file system likes."""

    name, paired = "two", True
    identity: Mapping[str, int] = {"count": 2}

    def ids(self) -> list[str]:
        return ["a/../b", "plain"]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Pair:
        draw = np.random.default_rng(index)
        rainy, clean = (draw.integers(0, 256, (32, 40 + 8 * index, 3), np.uint8) for _ in range(2))
        labels = Labels(clean[..., 0], ("road", "car"), (Box("car", 1, 2, 30, 31),)) if index else Labels()
        return Pair(self.ids()[index], rainy, clean, f"scene {index}", labels)


class Images(dict[str, "NDArray[np.uint8]"]):
    """Images by their digest."""

    def image(self, sha256: str) -> NDArray[np.uint8]:
        return self[sha256]

    def png(self, sha256: str) -> bytes:
        return to_png(self[sha256])


def keep(images: Images, image: NDArray[np.uint8]) -> str:
    sha256 = digest_of_image(image)
    images[sha256] = image
    return sha256


INDEX = SetIndex(
    created_by="a test",
    plan="plan",
    seed=3,
    levels=(2.0,),
    source={"name": "nobody", "weights_sha256": "0"},
    engine=None,
    literal=None,
    origin={},
    made={},
    attacks={"shift": StoredAttackRecord("shift", "nothing", None, None, {})},
    pairs=(),
    cases=(),
    files={},
)


def write(folder: Path, index: SetIndex = INDEX, step: int = 2) -> AdversarialSet:
    pairs, images = Pairs(), Images()
    clean, found = {}, {}
    for number, id_ in enumerate(pairs.ids()):
        rainy = pairs[number].rainy
        moved = np.where(rainy > 100, rainy - step, rainy + step).astype(np.uint8)
        clean[id_] = keep(images, rainy)
        found[Case(id_, "shift", 2.0)] = Found(keep(images, moved), {"objective": float("inf")})
    return write_set(folder, index, pairs, clean, found, images)


@pytest.fixture
def stored(tmp_path: Path) -> AdversarialSet:
    return write(tmp_path / "set")


def test_a_set_holds_what_was_crafted_and_its_sums_are_those_of_the_files(stored: AdversarialSet) -> None:
    stored.verify()
    for line in (stored.folder / "SHA256SUMS").read_text().splitlines():
        sha256, _, name = line.partition("  ")
        assert hashlib.sha256((stored.folder / name).read_bytes()).hexdigest() == sha256
    case = stored.case("a/../b", "shift", 2.0)
    assert (case.largest, case.rms, case.share, case.in_ball) == (2, 2.0, 1.0, True)
    assert case.facts["objective"] == float("inf")
    with Image.open(stored.folder / case.input) as image:
        np.testing.assert_array_equal(np.asarray(image), stored.attacked(case))
    assert sorted(p.name for p in stored.folder.parent.iterdir()) == ["set"]


def test_the_pairs_of_a_set_are_those_that_were_attacked(stored: AdversarialSet) -> None:
    source = SetSource(stored)
    for found, wanted in zip(iterate(source), iterate(Pairs()), strict=True):
        assert (found.id, found.scene, found.labels.boxes) == (wanted.id, wanted.scene, wanted.labels.boxes)
        assert found.labels.class_names == wanted.labels.class_names
        for image, original in ((found.rainy, wanted.rainy), (found.clean, wanted.clean)):
            np.testing.assert_array_equal(image, original)
        np.testing.assert_array_equal(found.labels.classes, wanted.labels.classes)


def test_the_same_set_again_changes_nothing_and_another_is_refused(stored: AdversarialSet) -> None:
    before = {path: path.stat().st_mtime_ns for path in stored.folder.rglob("*")}
    assert write(stored.folder).sha256 == stored.sha256
    assert {path: path.stat().st_mtime_ns for path in stored.folder.rglob("*")} == before
    with pytest.raises(InputError, match="holds another set"):
        write(stored.folder, step=1)
    with pytest.raises(InputError, match="crafted otherwise"):
        write(stored.folder, replace(INDEX, plan="another"))
    assert sorted(p.name for p in stored.folder.parent.iterdir()) == ["set"]


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b'"inputs/plain+clean.png"', b'"../../outside.png"'),
        (b'"schema": 1', b'"schema": 7'),
        (b'"level": 2.0', b'"level": 4.0'),
        (b'"pairs"', b'"peers"'),
        (b"{", b"["),
    ],
)
def test_an_index_that_lies_is_refused(stored: AdversarialSet, was: bytes, becomes: bytes) -> None:
    path = stored.folder / "set.json"
    path.write_bytes(path.read_bytes().replace(was, becomes))
    with pytest.raises(InputError, match=r"set\.json"):
        AdversarialSet.read(stored.folder)


def test_a_changed_index_is_another_set(stored: AdversarialSet) -> None:
    path = stored.folder / "set.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 3', b'"seed": 4'))
    assert AdversarialSet.read(stored.folder).sha256 != stored.sha256


# -- recorded outputs


def record(stored: AdversarialSet, folder: Path, suffix: str = ".png") -> Path:
    """The darkened input as the output of every frame."""
    folder.mkdir()
    for each in stored.inputs():
        with Image.open(stored.folder / each.file) as image:
            values = np.asarray(image)
        stem = each.file.removeprefix("inputs/").removesuffix(".png")
        if suffix == ".npy":
            np.save(folder / f"{stem}.npy", (values / 255 * 0.5).astype(np.float32).transpose(2, 0, 1))
        else:
            Image.fromarray(values // 2).save(folder / f"{stem}{suffix}")
    return folder


@pytest.mark.parametrize("suffix", [".png", ".ppm", ".npy"])
def test_outputs_are_found_by_the_pixels_that_they_answer(stored: AdversarialSet, tmp_path: Path, suffix: str) -> None:
    outputs = RecordedOutputs.open(record(stored, tmp_path / "out", suffix), stored)
    assert outputs.count == 4
    for each in stored.inputs():
        with Image.open(stored.folder / each.file) as image:
            values = np.asarray(image)
        wanted = values / 255 * 0.5 if suffix == ".npy" else (values // 2) / 255
        np.testing.assert_allclose(outputs.answer(each.pixels).numpy(), wanted.transpose(2, 0, 1), atol=1e-7)
    with pytest.raises(InputError, match="not of the set"):
        outputs.answer("0" * 64)


def test_arrays_may_have_channels_last_and_a_target_may_be_named(stored: AdversarialSet, tmp_path: Path) -> None:
    folder = record(stored, tmp_path / "out", ".npy")
    first = RecordedOutputs.open(folder, stored)
    for path in folder.iterdir():
        np.save(path, np.load(path).transpose(1, 2, 0)[None])
    (folder / "target.txt").write_text("bench 4\n\x1b[31mred\n")
    last = RecordedOutputs.open(folder, stored)
    assert last.target == "bench 4 \\x1b[31mred"
    assert last.sha256 != first.sha256
    for each in stored.inputs():
        np.testing.assert_array_equal(first.answer(each.pixels).numpy(), last.answer(each.pixels).numpy())


def missing(folder: Path) -> None:
    (folder / "plain+shift+2.png").unlink()


def foreign(folder: Path) -> None:
    (folder / "notes.log").write_text("done")


def elsewhere(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "plain+clean.png").rename(folder / "more" / "plain+clean.png")


def twice(folder: Path) -> None:
    Image.new("RGB", (48, 32)).save(folder / "plain+clean.ppm")


def mixed(folder: Path) -> None:
    (folder / "plain+clean.png").unlink()
    np.save(folder / "plain+clean.npy", np.zeros((32, 48, 3), np.float32))


def small(folder: Path) -> None:
    Image.new("RGB", (40, 32)).save(folder / "plain+clean.png")


def grey(folder: Path) -> None:
    Image.new("L", (48, 32)).save(folder / "plain+clean.png")


def nothing(folder: Path) -> None:
    (folder / "plain+clean.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, ["1 of 4 frames", "plain+shift+2.png"]),
        (foreign, ["notes.log", "answers no input"]),
        (elsewhere, ["1 of 4 frames", "plain+clean.png"]),
        (twice, ["plain+clean.png", "plain+clean.ppm", "same input"]),
        (mixed, ["plain+clean.npy", "of different kinds"]),
        (small, ["plain+clean.png", "32x40", "32x48"]),
        (grey, ["plain+clean.png", "grey"]),
        (nothing, ["plain+clean.png", "damaged"]),
    ],
)
def test_images_that_are_no_answers(
    stored: AdversarialSet, tmp_path: Path, spoil: Callable[[Path], None], said: list[str]
) -> None:
    folder = record(stored, tmp_path / "out")
    spoil(folder)
    with pytest.raises(InputError) as error:
        RecordedOutputs.open(folder, stored)
    assert all(word in str(error.value) for word in said), error.value


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((32, 48, 3), np.float64), "float64"),
        (np.zeros((32, 48, 3), np.uint8), "uint8"),
        (np.zeros((32, 48), np.float32), "shape"),
        (np.zeros((2, 32, 48, 3), np.float32), "shape"),
        (np.zeros((32, 40, 3), np.float32), "32x40"),
        (np.array([{}]), "no .npy"),
    ],
)
def test_arrays_that_are_no_answers(
    stored: AdversarialSet, tmp_path: Path, values: NDArray[np.generic], said: str
) -> None:
    folder = record(stored, tmp_path / "out", ".npy")
    np.save(folder / "plain+clean.npy", values)
    with pytest.raises(InputError, match=r"plain\+clean\.npy") as error:
        RecordedOutputs.open(folder, stored)
    assert said in str(error.value)


def test_arrays_from_0_to_255_are_refused(stored: AdversarialSet, tmp_path: Path) -> None:
    folder = record(stored, tmp_path / "out", ".npy")
    for path in folder.iterdir():
        np.save(path, np.load(path) * np.float32(255))
    with pytest.raises(InputError, match="divided by 255"):
        RecordedOutputs.open(folder, stored)


def test_equal_inputs_that_were_answered_differently_are_counted(stored: AdversarialSet, tmp_path: Path) -> None:
    """The attack left one image as it was, and the target is not deterministic."""
    path = stored.folder / "set.json"
    data = json.loads(path.read_text())
    (pair,) = [pair for pair in data["pairs"] if pair["id"] == "plain"]
    (case,) = [case for case in data["cases"] if case["pair"] == "plain"]
    case["pixels"] = pair["pixels"]
    path.write_text(json.dumps(data))
    outputs = RecordedOutputs.open(record(stored, tmp_path / "out"), AdversarialSet.read(stored.folder))
    assert outputs.contradictions == 1
