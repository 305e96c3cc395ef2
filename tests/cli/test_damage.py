"""Damaged files of every kind, given to the commands: exit code 2 with one line, or the result of the whole file.

Commands run in this process, and so do the networks, so that hundreds of files take minutes. A sample runs in every
test run, and all of them with ``DEPLOY_ROBUST_DAMAGE=1``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.manifest import FileRecord, Manifest, ModelRecord
from deploy_robust.cli.main import _run
from deploy_robust.models.checkpoints import save_checkpoint
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SAMPLE = 12
"""About so many damages of each kind are tried in every test run."""


class InProcess:
    """Stands for `IsolatedExecutor` without a process of its own."""

    def __init__(self, builder: Callable[..., Any], **_: Any) -> None:
        self._builder = builder

    def start(self) -> Any:
        self._executor, facts = self._builder(lambda flight: None)
        return facts

    def execute(self, batch: Any) -> Any:
        return self._executor.execute(batch)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def run(*arguments: str) -> Ended:
    """A command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _run(list(arguments), debug=False)
    return Ended(code, out.getvalue(), err.getvalue())


# -- damages of bytes, and of the values in a JSON or TOML file

OTHERS = {
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "zip": b"PK\x03\x04" + bytes(64),
    "sqlite": b"SQLite format 3\x00" + bytes(100),
    "html": b"<!doctype html><title>404</title>",
    "json": b'{"schema": 1}',
    "toml": b"schema = 1\n",
    "list": b"[]",
    "null": b"null",
    "number": b"3",
    "pickle": b"\x80\x04N.",
}


def of_bytes(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Damages that any file can have."""
    yield "empty", b""
    for share in (1, 2, 5, 9):
        yield f"cut at {share}/10", whole[: len(whole) * share // 10]
    rng = np.random.default_rng(0)
    for number in range(8):
        flipped = bytearray(whole)
        at = int(rng.integers(len(whole)))
        flipped[at] ^= 1 << int(rng.integers(8))
        yield f"bit {number} at byte {at}", bytes(flipped)
    yield "noise", rng.bytes(300)
    yield "utf-16", whole.decode("latin-1").encode("utf-16")
    yield "zeros", bytes(len(whole))
    for name, content in OTHERS.items():
        yield f"as {name}", content


VALUES = ("null", '""', "[]", "{}", "-1", "1.5", "true", '"x"', "1e999", "NaN", "9" * 400, "9223372036854775808")
DEEP = '{"a":' * 100_000


def of_json(data: Any) -> Iterator[tuple[str, bytes]]:
    """Damages of a JSON file's values: each of them in turn missing, of another type, or beyond a limit."""
    marker = "\x00"
    places = list(_places(data))
    for number, place in enumerate(places):
        for value in (VALUES[number % len(VALUES)], VALUES[(number * 5 + 3) % len(VALUES)]):
            text = json.dumps(_with(data, place, marker))
            yield f"{place} = {value[:20]}", text.replace(json.dumps(marker), value, 1).encode()
        yield f"without {place}", json.dumps(_without(data, place)).encode()
    yield "nested", DEEP.encode()
    yield "a key twice", json.dumps(data).replace("{", '{"a": 1, "a": 2, ', 1).encode()
    yield "a key more", json.dumps({**data, "colour": 1}).encode()


def _places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    if isinstance(data, dict | list):
        for key in list(data if isinstance(data, dict) else range(len(data)))[:12]:
            yield from _places(data[key], (*place, key))


def _with(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(data))
    inner = copy
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return copy


def _without(data: Any, place: tuple[Any, ...]) -> Any:
    copy = json.loads(json.dumps(data))
    inner = copy
    for step in place[:-1]:
        inner = inner[step]
    del inner[place[-1]]
    return copy


# -- one whole case of each kind of file


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it lies, the command that reads it, how it is damaged, and whether a hash protects it."""

    file: str
    command: tuple[str, ...]
    damages: Callable[[bytes], Iterator[tuple[str, bytes]]]
    meant: bool = False
    """Whether another legal value is another question, whose answer may differ."""


def json_file(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield from of_bytes(whole)
    yield from of_json(json.loads(whole))


def toml_file(whole: bytes) -> Iterator[tuple[str, bytes]]:
    text = whole.decode()
    yield from of_bytes(whole)
    for line in text.splitlines():
        key, sign, _ = line.partition(" = ")
        if sign:
            for value in ("nan", "inf", "-1", "[]", '""', "true", "1" + "0" * 400, "1979-05-27", "[2, 2]", "{ a = 1 }"):
                yield f"{key} = {value[:20]}", text.replace(line, f"{key} = {value}", 1).encode()
            yield f"without {key}", text.replace(f"{line}\n", "", 1).encode()
    yield "nested", f"a = {'[' * 50_000}".encode()
    yield "a key more", f"colour = 1\n{text}".encode()


def of_graph(_: bytes) -> Iterator[tuple[str, bytes]]:
    """Graphs with sizes and types that no engine has, and metadata that is no I/O description."""
    for side in (2**40, 2**62, 10**8, 70_000):
        yield f"height {side}", _graph(shape=("n", 3, side, 64))
        yield f"both sides {side}", _graph(shape=("n", 3, side, side))
        yield f"batch {side}", _graph(shape=(side, 3, "h", "w"))
    yield "channels", _graph(shape=("n", 2**40, "h", "w"))
    yield "many images", _graph(shape=(4096, 3, 4096, 4096))
    for number in (0, 65, 999, 2**31 - 1, TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.UINT4):
        yield f"element type {number}", _graph(dtype=number)
    for text in (
        "",
        "[]",
        "null",
        "3",
        '"x"',
        DEEP,
        '{"mean": "x"}',
        '{"size": null}',
        '{"size": [1]}',
        '{"batch": -1}',
        '{"size": {"multiple": 0}}',
        '{"size": {"multiple": -3}}',
        '{"size": {"fixed": 2.5}}',
        '{"range": []}',
        '{"range": [0, Infinity]}',
        '{"std": [NaN, 1, 1]}',
        '{"std": [0, 1, 1]}',
        '{"layout": "HWC"}',
        '{"colour": null}',
        '{"dtype": "int4"}',
        '{"mean": [1, 2]}',
        '{"mean": [1, 2, 1e999]}',
        '{"batch": 1e9}',
        '{"range": [0, 1], "range": [0, 255]}',
        '{"size": {"multiple": 1000000000000}}',
    ):
        yield f"metadata {text[:40]}", _graph(metadata=text)


def _graph(shape: Any = ("n", 3, "h", "w"), dtype: int = TensorProto.FLOAT, metadata: str | None = None) -> bytes:
    """An ONNX file that gives what it takes."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in "xy"]
    for port in ports:
        port.type.tensor_type.elem_type = dtype
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {"deploy_robust.io": metadata})
    content: bytes = model.SerializeToString()
    return content


NETWORK = """\
model = "street.onnx"
task = "segmentation"
classes = ["road", "sky"]

[input]
multiple = 1
range = [0, 1]

[output]
form = "scores"
"""

CHECK = ("check", "--policy", "quick.toml", "--size", "32", "--limit", "2", "--threads", "1", "--out", "out")
KINDS = {
    "manifest": Kind("net.onnx.json", (*CHECK, "--engine", "net.onnx"), json_file, meant=True),
    "graph": Kind("bare.onnx", (*CHECK, "--engine", "bare.onnx"), of_bytes, meant=True),
    "graph of no network": Kind("bare.onnx", (*CHECK, "--engine", "bare.onnx"), of_graph),
    "io-file": Kind("io.json", (*CHECK, "--engine", "bare.onnx", "--io-file", "io.json"), json_file, meant=True),
    "policy": Kind("mine.toml", ("judge", "run", "--policy", "mine.toml", "--out", "out"), toml_file, meant=True),
    "set": Kind(
        "set/set.json",
        ("check", "--adversarial", "set", *CHECK[1:3], "--out", "out", "--engine", "bare.onnx"),
        json_file,
    ),
    "set image": Kind(
        "set/inputs/IMAGE",
        ("check", "--adversarial", "set", *CHECK[1:3], "--out", "out", "--engine", "bare.onnx"),
        of_bytes,
    ),
    "weights": Kind("net.safetensors", (*CHECK, "--engine", "bare.onnx", "--source", "net.safetensors"), of_bytes),
    "pickle": Kind(
        "net.pth",
        (*CHECK, "--engine", "bare.onnx", "--source", "net.pth", "--model", "prenet", "--preset", "official"),
        of_bytes,
    ),
    "description": Kind(
        "net.toml", (*CHECK, "--engine", "bare.onnx", "--downstream", "net.toml"), toml_file, meant=True
    ),
    "run folder": Kind("run/run.sqlite", ("runs", "show", "run"), of_bytes, meant=True),
    "pair": Kind(
        "pairs/rain/a.png",
        ("check", "--engine", "bare.onnx", *CHECK[1:3], "--data", "pairs", "--out", "out"),
        of_bytes,
        meant=True,
    ),
}


@pytest.fixture(scope="module")
def whole(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One whole file of each kind, and a run folder and a set that were made from them."""
    patch = pytest.MonkeyPatch()
    patch.setattr("deploy_robust.gate.isolation.IsolatedExecutor", InProcess)
    folder = tmp_path_factory.mktemp("whole")
    patch.chdir(folder)
    threads = torch.get_num_threads()
    (folder / "quick.toml").write_text(cli.QUICK)
    (folder / "mine.toml").write_text(cli.QUICK)
    cli.blur(folder / "bare.onnx")
    model = MODELS.create("prenet", "tiny")
    save_checkpoint(folder / "net.safetensors", model, {"steps": 1})
    torch.save(MODELS.create("prenet", "official", iterations=1).state_dict(), folder / "net.pth")
    cli.blur(folder / "net.onnx")
    Manifest(
        FileRecord.of(folder / "net.onnx"),
        "fp32",
        "fp32",
        {"onnx": "1"},
        IODescription(),
        model=ModelRecord("prenet", "tiny", {"width": 4, "iterations": 2}),
        source=FileRecord.of(folder / "net.safetensors"),
    ).write(folder)
    (folder / "io.json").write_text(json.dumps(IODescription().to_dict()))
    cli.graph(
        folder / "street.onnx",
        [cli.helper.make_node("Slice", ["x", "a", "b", "c"], ["y"])],
        outputs=[cli.value("y", ("n", 2, "h", "w"))],
        a=np.array([0]),
        b=np.array([2]),
        c=np.array([1]),
    )
    (folder / "net.toml").write_text(NETWORK)
    cli.write_pairs(folder / "pairs", {"a": (cli.picture(1), cli.picture(2)), "b": (cli.picture(3), cli.picture(4))})
    made = run(*CHECK[:-1], "run", "--engine", "bare.onnx")
    assert made.code in (0, 1, 3), made.err
    made = run("attack", *CHECK[1:-2], "--out", "set", "--engine", "bare.onnx")
    assert made.code == 0, made.err
    shutil.rmtree(folder / "set.run")
    yield folder
    patch.undo()
    torch.set_num_threads(threads)


def result(folder: Path, ended: Ended) -> Any:
    """What a command came to: its code, and every figure that it wrote."""
    if not (folder / "out" / "report.json").is_file():
        return ended.code, ended.out
    report = json.loads((folder / "out" / "report.json").read_text())
    return ended.code, report["sentence"], report["outcomes"], report["cases"]


def require_told(ended: Ended, folder: Path, before: set[Path]) -> None:
    """Exit code 2, one line that is no fault of ours, and nothing half-written."""
    assert ended.code == 2
    assert ended.err.startswith("deploy-robust: "), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert "internal error" not in ended.err, ended.err
    assert "Traceback" not in ended.err + ended.out
    assert len(ended.err) < 2000, len(ended.err)
    left = {path for path in folder.rglob("*") if path.parts[len(folder.parts)] != "out"} - before
    assert not left, left
    assert not list(folder.glob("out/report*")), "a report was written"


def tried(folder: Path, damages: list[tuple[str, Callable[[], None]]], kind: Kind) -> tuple[int, int]:
    """Tries damages one after the other; how many there were, and how many did not matter."""
    harmless = 0
    before = set(folder.rglob("*"))
    first = run(*kind.command)
    assert first.code in (0, 1, 3), first.err
    right = result(folder, first)
    shutil.rmtree(folder / "out", ignore_errors=True)
    wrong = []
    for name, damage in damages:
        damage()
        ended = run(*kind.command)
        try:
            if ended.code == 2:
                require_told(ended, folder, before)
            else:
                assert ended.code in (0, 1, 3)
                assert kind.meant or result(folder, ended) == right
                harmless += 1
        except AssertionError as error:
            wrong.append(f"{kind.file}, {name}: {error}")
        shutil.rmtree(folder / "out", ignore_errors=True)
        before = set(folder.rglob("*"))
    assert not wrong, "\n".join(wrong)
    return len(damages), harmless


def some(damages: list[Any]) -> list[Any]:
    """All damages where that was asked for, else a sample."""
    return damages if os.environ.get("DEPLOY_ROBUST_DAMAGE") else damages[:: max(1, len(damages) // SAMPLE)]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_damaged_files_are_told_in_one_line(whole: Path, kind: Kind) -> None:
    path = whole / kind.file
    if path.name == "IMAGE":
        path = sorted(path.parent.iterdir())[0]
    content = path.read_bytes()
    damages = [(name, lambda bad=bad: path.write_bytes(bad)) for name, bad in kind.damages(content)]
    try:
        count, harmless = tried(whole, some(damages), kind)
    finally:
        path.write_bytes(content)
    sys.stdout.write(f"{kind.file}: {count} damages, {harmless} without an effect" + "\n")


CELLS = (None, b"\x00\xff", "a word", "[1]", "", -1, 10**18, 1e300, '{"psnr": "a"}', '{"psnr": null}', "[" * 100_000)


def of_store(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Damages of the cells of a run folder's file, and of the values inside its plan and notes."""
    whole = path.read_bytes()
    db = sqlite3.connect(path)
    columns = {
        table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        for table in ("batch", "measurement", "image", "meta")
    }
    meta = dict(db.execute("SELECT key, value FROM meta"))
    db.close()

    def set_cell(table: str, column: str, value: Any, where: str = "") -> Callable[[], None]:
        def damage() -> None:
            path.write_bytes(whole)
            changed = sqlite3.connect(path)
            changed.execute("PRAGMA ignore_check_constraints = ON")
            with contextlib.suppress(sqlite3.IntegrityError), changed:
                changed.execute(f"UPDATE {table} SET {column} = ? {where}", (value,))
            changed.close()

        return damage

    for table, names in columns.items():
        where = "" if table == "batch" else f"WHERE rowid = (SELECT MAX(rowid) FROM {table})"
        if table in ("image", "meta"):
            where = f"WHERE {names[0]} = (SELECT MAX({names[0]}) FROM {table})"
        for column in names:
            for value in CELLS:
                yield f"{table}.{column} = {str(value)[:20]}", set_cell(table, column, value, where)
    for key, text in meta.items():
        for value in CELLS:
            yield f"{key} = {str(value)[:20]}", set_cell("meta", "value", value, f"WHERE key = '{key}'")
        if isinstance(json.loads(text), dict):
            for name, bad in of_json(json.loads(text)):
                yield f"{key}: {name}", set_cell("meta", "value", bad.decode(), f"WHERE key = '{key}'")


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "show", "run"),
        ("runs", "list", "."),
        ("judge", "run", "--policy", "quick.toml", "--out", "out"),
        ("replay", "run", "scene-test-000000", "pgd-lmse@2"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_damaged_run_folders_are_told_in_one_line(whole: Path, command: tuple[str, ...]) -> None:
    path = whole / "run" / "run.sqlite"
    content = path.read_bytes()
    damages = list(of_store(path))
    if command[0] == "replay":
        damages = damages[::5]
    try:
        count, harmless = tried(whole, some(damages), Kind("run", command, of_bytes, meant=True))
    finally:
        path.write_bytes(content)
        for left in ("-wal", "-shm"):
            path.with_name(path.name + left).unlink(missing_ok=True)
    sys.stdout.write(f"{' '.join(command[:2])}: {count} damages, {harmless} without an effect" + "\n")


def test_a_flipped_bit_in_a_stored_image_is_noticed(whole: Path) -> None:
    path = whole / "run" / "run.sqlite"
    content = path.read_bytes()
    db = sqlite3.connect(path)
    ((sha256,),) = db.execute("SELECT MAX(input_image) FROM measurement WHERE attack <> 'clean'")
    ((png,),) = db.execute("SELECT png FROM image WHERE sha256 = ?", (sha256,))
    pixels = np.asarray(Image.open(io.BytesIO(png))).copy()
    pixels[0, 0, 0] ^= 1
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    with db:
        db.execute("UPDATE image SET png = ?", (buffer.getvalue(),))
    db.close()
    try:
        before = set(whole.rglob("*"))
        ended = run("judge", "run", "--policy", "quick.toml", "--out", "out")
        require_told(ended, whole, before)
        assert not (whole / "out").exists() or not list((whole / "out").iterdir())
        assert "other pixels than its name says" in ended.err
    finally:
        path.write_bytes(content)
        shutil.rmtree(whole / "out", ignore_errors=True)


LINES = """
check
check --engine
check --engine none.onnx
check --engine .
check --engine quick.toml
check --engine net.onnx.json
check --engine bare.onnx --policy none.toml
check --engine bare.onnx --policy .
check --engine bare.onnx --policy bare.onnx
check --engine bare.onnx --data none
check --engine bare.onnx --data bare.onnx
check --engine bare.onnx --data set
check --engine bare.onnx --limit 0
check --engine bare.onnx --limit -1
check --engine bare.onnx --limit 99999999999999999999999
check --engine bare.onnx --size 0
check --engine bare.onnx --size 31
check --engine bare.onnx --size 64x
check --engine bare.onnx --size 99999999
check --engine bare.onnx --crop 64
check --engine bare.onnx --threads 0
check --engine bare.onnx --threads many
check --engine bare.onnx --batch 0
check --engine bare.onnx --rows 0
check --engine bare.onnx --timeout 0
check --engine bare.onnx --timeout nan
check --engine bare.onnx --seed -1
check --engine bare.onnx --device tpu
check --engine bare.onnx --device cuda:99
check --engine bare.onnx --provider None
check --engine bare.onnx --runtime none
check --engine bare.onnx --range 0,inf
check --engine bare.onnx --range nan,1
check --engine bare.onnx --range 1,0
check --engine bare.onnx --range 1
check --engine bare.onnx --mean 1,2
check --engine bare.onnx --mean nan,0,0
check --engine bare.onnx --std 0,1,1
check --engine bare.onnx --std inf,1,1
check --engine bare.onnx --multiple 0
check --engine bare.onnx --multiple 1000000000
check --engine bare.onnx --engine-size 64 --multiple 2
check --engine bare.onnx --engine-size 9999999
check --engine bare.onnx --engine-batch 0
check --engine bare.onnx --engine-batch 99999999
check --engine bare.onnx --io-file none.json
check --engine bare.onnx --io-file bare.onnx
check --engine bare.onnx --source none.pth --model prenet
check --engine bare.onnx --source net.pth
check --engine bare.onnx --source net.pth --model prenot
check --engine bare.onnx --source net.pth --model prenet --preset offical
check --engine bare.onnx --source quick.toml
check --engine bare.onnx --downstream none.toml
check --engine bare.onnx --downstream quick.toml
check --engine bare.onnx --adversarial none
check --engine bare.onnx --adversarial pairs
check --engine bare.onnx --out quick.toml
check --engine bare.onnx --max-minutes -1
check --adversarial set --outputs none --policy quick.toml
attack --engine bare.onnx --epsilon 0/255
attack --engine bare.onnx --epsilon x
attack --engine bare.onnx --attack none
attack --engine bare.onnx --objective none
compare
compare --engine bare.onnx,name=a --engine net.onnx,name=a
compare --engine bare.onnx,colour=1 --engine net.onnx
verify --engine bare.onnx --p0 2
verify --engine bare.onnx --alpha 0
plan --p0 nan
judge none
judge run --policy none
replay run nowhere
replay run scene-test-000000 pgd-lmse
replay run scene-test-000000 pgd-lmse inf
replay none scene-test-000000
runs show none
runs show set
runs list none
runs prune none
runs prune run --keep -1
export
export --model none --out out
export --checkpoint none --out out
export --checkpoint quick.toml --out out
export --checkpoint net.safetensors --precision fp3 --out out
train --model none --steps 1 --out out.safetensors
train --model prenet --steps 0 --out out.safetensors
train --model prenet --steps 1 --rate nan --out out.safetensors
models none --x
doctor --x
chek
--x
""".strip().splitlines()


@pytest.mark.parametrize("line", LINES)
def test_command_lines_that_cannot_be_followed(whole: Path, line: str) -> None:
    before = set(whole.rglob("*"))
    try:
        ended = run(*line.split())
        require_told(ended, whole, before)
        assert ended.out == ""
    finally:
        for left in sorted(set(whole.rglob("*")) - before):
            shutil.rmtree(left, ignore_errors=True)
