"""Files are whole or not there, and a manifest belongs to the bytes beside it."""

from __future__ import annotations

import json

import pytest

from deploy_robust.artefact.files import atomic, write_bytes
from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.io_description import IODescription, SizeRule
from deploy_robust.artefact.manifest import (
    IDENTICAL,
    CalibrationRecord,
    FileRecord,
    Manifest,
    ModelRecord,
    ParityFigure,
    manifest_path,
    read_manifest,
)
from deploy_robust.errors import ArtefactError, InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def stop_half_way() -> None:
        with atomic(path) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another place"):
        write_bytes(tmp_path / "file" / "a.bin", b"x")


def test_hash_is_sha256(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(InputError, match="cannot read"):
        sha256_of(tmp_path / "none")


@pytest.fixture
def artefact(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"graph")
    Manifest(
        artefact=FileRecord.of(path),
        precision="int8",
        exporter="int8",
        versions={"onnx": "1"},
        io=IODescription(size=SizeRule(multiple=8), mean=(0.1, 0.2, 0.3)),
        model=ModelRecord("prenet", "small", {"width": 16}),
        source=FileRecord("net.safetensors", "0" * 64),
        calibration=CalibrationRecord({"source": "scenes"}, 4, "minmax", "1" * 64),
        parity=(ParityFigure("fp32", (97, 61), 3, 38.25, 0.1), ParityFigure("fp32", (64, 64), 1, IDENTICAL, 0.0)),
    ).write(tmp_path)
    return path


def test_what_is_written_is_read_back(artefact):
    manifest = read_manifest(artefact)
    assert manifest is not None
    assert manifest.io.size == SizeRule(multiple=8)
    assert manifest.io.mean == (0.1, 0.2, 0.3)
    assert manifest.parity[0].size == (97, 61)
    assert manifest.parity[1].psnr_db == "identical"
    again = manifest.to_dict()
    manifest.write(artefact.parent)
    assert read_manifest(artefact).to_dict() == again


def test_no_manifest_is_none(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"")
    assert read_manifest(tmp_path / "a.onnx") is None


def test_other_bytes_are_noticed(artefact):
    artefact.write_bytes(b"another graph")
    with pytest.raises(ArtefactError, match="other bytes"):
        read_manifest(artefact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: "{", "damaged"),
        (lambda data: "[]", "schema None"),
        (lambda data: json.dumps({**data, "schema": 99}), "schema 99"),
        (lambda data: json.dumps({k: v for k, v in data.items() if k != "io"}), "lacks or misnames"),
        (lambda data: json.dumps({**data, "colour": 1}), "lacks or misnames"),
        (lambda data: json.dumps({**data, "io": {"range": [1, 0]}}), "not usable"),
    ],
)
def test_damaged_manifests_are_refused(artefact, change, message):
    path = manifest_path(artefact)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(ArtefactError, match=message):
        read_manifest(artefact)
