"""Engines that cheat or are damaged, and healthy exports, under the default policy: who passes, what stops the others.

    python benchmarks/fooled.py --out benchmarks/results/fooled.json [--workers 2] [NAME ...]

Every engine of `cheats.py` goes through the command ``check`` as a supplier's file would: 24 embedded scenes, the
default policy, the engine's own graph as the source unless it claims to be a network. It must not PASS, and one of the
named requirements must be what stopped it. Engines with hidden gradients must come to the plain file's PSNR under PGD.
Healthy exports must not be refused by the requirements that look for cheating. Files that change under a run must be
refused.

Rows are kept in the JSON file; an engine that has its row is left alone. Exit code 1 where a row is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from cheats import CHEATS, Cheat, Edit, node, rounded, worn
from onnx import TensorProto, helper

from deploy_robust.app.run_plan import versions
from deploy_robust.gate.policy import load_policy
from deploy_robust.models.checkpoints import save_checkpoint
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Row = dict[str, Any]

PLAIN, ROBUST = "prenet-small", "prenet-small-robust"
SIZE, SEED = "32", "18"
"""On these scenes the plain network loses more than 14 dB on one image at 2/255, its robust twin less than 3."""

GUARDS = ("independent-rows", "repeatable", "masked-gradients", "attacked-parity", "engine-defect", "parity")
"""Requirements that no healthy export may break."""

WITHIN_DB = 0.5
"""How far an engine with hidden gradients may stay above the plain file's mean PSNR, under PGD at each epsilon."""


def command(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """deploy-robust as its users run it, one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "deploy_robust", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def check(engine: Path, out: Path, *options: str | Path) -> Row:
    """One check: exit code, verdict, what stopped it, and the mean PSNR that PGD left at each epsilon."""
    ended = command(
        *("check", "--engine", engine, "--size", SIZE, "--seed", SEED, "--threads", "1", "--out", out, *options),
        cwd=out.parent,
    )
    row: Row = {"exit_code": ended.returncode}
    if ended.returncode == 2 or not (out / "report.json").is_file():
        return {**row, "status": "ERROR", "stopped_by": ["error"], "says": ended.stderr.strip().splitlines()[-1][:300]}
    report = json.loads((out / "report.json").read_text())
    stopped = {o["requirement"]: o["status"] for o in reversed(report["outcomes"]) if o["status"] != "PASS"}
    failed = [name for name, status in stopped.items() if status == "FAIL"]
    return {
        **row,
        "status": report["status"],
        "stopped_by": sorted(failed or stopped) + (["cap"] if report["caps"] else []),
        "open": sorted(name for name, status in stopped.items() if status != "FAIL"),
        "caps": report["caps"],
        "says": report["sentence"],
        "worst_loss": max(
            (o["value"] for o in report["outcomes"] if o["requirement"] == "collapse" and o["value"]), default=None
        ),
        "pgd": pgd(report),
    }


def pgd(report: Row) -> dict[str, float]:
    """Epsilon in grey levels to the engine's lowest mean PSNR over its attacks by gradients."""
    found: dict[str, float] = {}
    for curve in report["curves"]:
        if curve["role"] == "engine" and curve["attack"].startswith("pgd") and curve["delivery"] == "8bit":
            for point in curve["points"]:
                if curve["metric"] == "psnr" and point["level"]:
                    level = f"{point['level']:g}"
                    found[level] = min(found.get(level, np.inf), point["mean"])
    return found


# -- engines


class Bench:
    """A folder with the exports that everything is made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plain = self._export(PLAIN, "fp32")
        self.robust = self._export(ROBUST, "fp32")

    def _export(self, checkpoint: str | Path, *words: str) -> Path:
        name = Path(checkpoint).stem
        out = self.folder / f"{name}-{'-'.join(words).replace('/', '')}"
        if not out.is_dir():
            ended = command(
                *("export", "--checkpoint", checkpoint, "--precision", words[0], "--out", out, *words[1:]),
                cwd=self.folder,
            )
            if ended.returncode:
                raise SystemExit(f"export of {checkpoint} as {words} failed: {ended.stderr}")
        (path,) = out.glob(f"*{words[0]}*.onnx")
        return path

    def cheat(self, cheat: Cheat) -> Row:
        """An engine that cheats."""
        folder = self._new(cheat.name)
        path = folder / f"{cheat.name}.onnx"
        onnx.save(cheat.make(self.plain, self.robust).model, str(path))
        source = {"": (), "plain": ("--source", PLAIN), "robust": ("--source", ROBUST)}[cheat.source]
        row = check(path, folder / "run", *source, *cheat.options)
        stopped = set(cheat.stopped_by) & set(row["stopped_by"])
        right = row["status"] != "PASS" and bool(stopped) and (row["status"] in ("FAIL", "ERROR") or not cheat.fails)
        shutil.rmtree(folder)
        return {"kind": cheat.kind, "must_be_stopped_by": list(cheat.stopped_by), **row, "right": right}

    def healthy(self, make: Callable[[Bench], Path]) -> Row:
        """An engine that does not."""
        path = make(self)
        folder = self._new(f"healthy-{path.parent.name}")
        row = check(path, folder / "run")
        refused = sorted({*row["stopped_by"], *row.get("open", ())} & {*GUARDS, "error"})
        shutil.rmtree(folder)
        return {"kind": "healthy", **row, "refused_by": refused, "right": not refused}

    def _new(self, name: str) -> Path:
        folder = self.folder / f"of-{name}"
        folder.mkdir()
        return folder


def exported(checkpoint: str, *words: str) -> Callable[[Bench], Path]:
    """A plain export."""
    return lambda bench: bench._export(checkpoint, *words)


def fresh(name: str, precision: str) -> Callable[[Bench], Path]:
    """A network of the zoo with fresh weights: robust or not, an export of it is healthy."""

    def make(bench: Bench) -> Path:
        path = bench.folder / f"{name}-fresh.safetensors"
        torch.manual_seed(0)
        save_checkpoint(path, MODELS.create(name, "small").eval(), {})
        return bench._export(path, precision)

    return make


def edited(name: str, edit: Callable[[Path], Edit]) -> Callable[[Bench], Path]:
    """The robust network in another form."""

    def make(bench: Bench) -> Path:
        folder = bench.folder / name
        folder.mkdir(exist_ok=True)
        onnx.save(edit(bench.robust).model, str(folder / f"{name}.onnx"))
        return folder / f"{name}.onnx"

    return make


def uint8_nhwc(path: Path) -> Edit:
    """Takes and gives grey levels, as a camera does."""
    g = Edit(path)
    image = g.graph.input[0]
    g.constant("c255", 255)
    g.before(
        node("Cast", ["camera"], ["as_float"], to=TensorProto.FLOAT),
        node("Div", ["as_float", "c255"], ["unit"]),
        node("Transpose", ["unit"], ["delivered"], perm=[0, 3, 1, 2]),
    )
    g.constant("low", 0)
    g.constant("high", 255)
    g.after(
        node("Transpose", ["inner"], ["nhwc"], perm=[0, 2, 3, 1]),
        node("Mul", ["nhwc", "c255"], ["grey"]),
        node("Clip", ["grey", "low", "high"], ["cut"]),
        node("Round", ["cut"], ["whole"]),
        node("Cast", ["whole"], [g.output], to=TensorProto.UINT8),
    )
    image.CopyFrom(helper.make_tensor_value_info("camera", TensorProto.UINT8, [1, "h", "w", 3]))
    g.graph.output[0].CopyFrom(helper.make_tensor_value_info(g.output, TensorProto.UINT8, [1, "h", "w", 3]))
    return g


def fixed(path: Path) -> Edit:
    """Takes one image of one size."""
    g = Edit(path)
    for port in (g.graph.input[0], g.graph.output[0]):
        port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, [1, 3, int(SIZE), int(SIZE)]))
    return g


HEALTHY: dict[str, Callable[[Bench], Path]] = {
    **{
        f"{name} {precision}": exported(name, precision)
        for name in (PLAIN, ROBUST)
        for precision in ("fp32", "fp16", "bf16", "int8", "int8-tensorrt")
    },
    f"{ROBUST} uint8 NHWC": edited("uint8-nhwc", uint8_nhwc),
    f"{ROBUST} fixed size": edited("fixed", fixed),
    f"{ROBUST} rounding inside": edited("rounding", lambda path: rounded(path, path)),
    "rescan fresh fp32": fresh("rescan", "fp32"),
    "rescan fresh int8": fresh("rescan", "int8"),
    "umrl fresh fp16": fresh("umrl", "fp16"),
    "mprnet fresh int8": fresh("mprnet", "int8"),
}


# -- files that change


def swapped_data(bench: Bench) -> Row:
    """Other weights in the file beside a graph: another engine, so that a run does not go on."""
    folder = bench._new("swapped-data")
    path = folder / "engine.onnx"
    external = {"save_as_external_data": True, "location": "engine.onnx.data", "size_threshold": 0}
    onnx.save_model(Edit(bench.robust).model, str(path), **external)
    first = check(path, folder / "run", "--source", ROBUST)
    before = path.read_bytes()
    (folder / "engine.onnx.data").unlink()  # onnx would write behind what is there
    onnx.save_model(worn(bench.plain, bench.robust).model, str(path), **external)
    if path.read_bytes() != before:
        raise SystemExit("the graph itself has changed, and the data alone were meant to")
    again = check(path, folder / "run", "--source", ROBUST)
    shutil.rmtree(folder)
    return {"first": first["status"], **again, "right": first["status"] == "PASS" and again["stopped_by"] == ["error"]}


def outside_data(bench: Bench) -> Row:
    """Weights outside the engine's folder."""
    folder = bench._new("outside-data")
    (folder / "engine").mkdir()
    path = folder / "engine" / "engine.onnx"
    external = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    onnx.save_model(Edit(bench.robust).model, str(path), **external)
    shutil.move(folder / "engine" / "weights.data", folder / "weights.data")
    model = onnx.load(str(path), load_external_data=False)
    for weight in model.graph.initializer:
        for entry in weight.external_data:
            if entry.key == "location":
                entry.value = "../weights.data"
    path.write_bytes(model.SerializeToString())
    row = check(path, folder / "run")
    shutil.rmtree(folder)
    return {**row, "right": row["stopped_by"] == ["error"]}


def _manifest(bench: Bench, name: str, change: Callable[[Row], None]) -> Row:
    folder = bench._new(name)
    for each in bench.robust.parent.iterdir():
        shutil.copy(each, folder)
    path = folder / bench.robust.name
    beside = Path(f"{path}.json")
    data = json.loads(beside.read_text())
    change(data)
    beside.write_text(json.dumps(data))
    row = check(path, folder / "run")
    shutil.rmtree(folder)
    return {**row, "right": row["stopped_by"] == ["error"]}


def manifest_says_int8(bench: Bench) -> Row:
    """A manifest that claims int8 for a graph of fp32."""
    return _manifest(bench, "says-int8", lambda data: data.update(precision="int8"))


def manifest_of_another(bench: Bench) -> Row:
    """A manifest that names another file's hash."""
    return _manifest(bench, "of-another", lambda data: data["artefact"].update(sha256="0" * 64))


def manifest_points_out(bench: Bench) -> Row:
    """A manifest whose source lies outside the folder."""
    return _manifest(bench, "points-out", lambda data: data["source"].update(file=f"../{data['source']['file']}"))


FILES = (swapped_data, outside_data, manifest_says_int8, manifest_of_another, manifest_points_out)


# -- the table


def jobs(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Every row by its name."""
    yield "plain", lambda: {"kind": "as it is", **check(bench.plain, bench._new("plain") / "run"), "right": True}
    yield "robust", lambda: {"kind": "as it is", **check(bench.robust, bench._new("robust") / "run"), "right": True}
    for each in CHEATS:
        yield each.name, lambda each=each: bench.cheat(each)  # type: ignore[misc]
    for change in FILES:
        yield change.__name__.replace("_", "-"), lambda change=change: {"kind": "files", **change(bench)}  # type: ignore[misc]
    for name, make in HEALTHY.items():
        yield name, lambda make=make: bench.healthy(make)  # type: ignore[misc]


def judged(rows: dict[str, Row]) -> dict[str, Row]:
    """What depends on the rows of plain and robust: they FAIL and PASS, and hidden gradients hide nothing."""
    for name, status in (("plain", "FAIL"), ("robust", "PASS")):
        if name in rows:
            rows[name]["right"] = rows[name]["status"] == status
    plain = rows.get("plain", {}).get("pgd", {})
    for row in rows.values():
        if row["kind"] == "hidden gradients" and plain and row.get("pgd"):
            row["above_plain_db"] = {level: round(row["pgd"][level] - plain[level], 2) for level in plain}
            row["right"] = row["right"] and max(row["above_plain_db"].values()) <= WITHIN_DB
    return rows


def shown(rows: dict[str, Row]) -> str:
    """The table in Markdown."""
    lines = ["| engine | kind | exit code | verdict | stopped by | |", "| --- | --- | --- | --- | --- | --- |"]
    for name, row in rows.items():
        apart = row.get("above_plain_db")
        more = "" if not apart else f"PGD leaves {max(apart.values()):+.2f} dB of the plain file's at most"
        stopped = ", ".join(row["stopped_by"]) or "-"
        wrong = "" if row["right"] else " **wrong**"
        lines.append(f"| {name} | {row['kind']} | {row['exit_code']} | {row['status']}{wrong} | {stopped} | {more} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="rows to fill in; all where none is named")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fooled.json")
    parser.add_argument("--workers", type=int, default=2, help="checks side by side")
    chosen = parser.parse_args()
    rows: dict[str, Row] = json.loads(chosen.out.read_text())["rows"] if chosen.out.exists() else {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(chosen.workers) as pool:
        everything = dict(jobs(Bench(Path(folder))))
        wanted = [name for name in chosen.names or everything if name not in rows]
        begun = {name: pool.submit(everything[name]) for name in wanted}
        for name, job in begun.items():
            rows[name] = job.result()
            print(f"{name}: {rows[name]['status']} {rows[name]['stopped_by']} {rows[name]['says'][:150]}", flush=True)
            ordered = {each: rows[each] for each in everything if each in rows}
            conditions = {
                "size": SIZE,
                "seed": SEED,
                "policy": load_policy("default").to_dict(),
                "versions": versions(),
            }
            chosen.out.parent.mkdir(exist_ok=True)
            chosen.out.write_text(json.dumps({"conditions": conditions, "rows": judged(ordered)}, indent=1) + "\n")
    rows = judged(json.loads(chosen.out.read_text())["rows"])
    print(shown(rows))
    wrong = [name for name, row in rows.items() if not row["right"]]
    print(
        f"{len(rows) - len(wrong)} of {len(rows)} as they must be" + (f"; wrong: {', '.join(wrong)}" if wrong else "")
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
