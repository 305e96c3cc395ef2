"""Parity on attacked images: the margins of healthy exports, and faults that only attacked images reach.

    OMP_NUM_THREADS=1 python benchmarks/attacked_parity.py margins [NETWORK ...]
    OMP_NUM_THREADS=1 python benchmarks/attacked_parity.py faults
    OMP_NUM_THREADS=1 python benchmarks/attacked_parity.py cost

Both run the attacks of the default policy through the run's own executor, on ONNX Runtime on a CPU: PGD-20, noise and
corners at each epsilon, and both attacks on the difference of engine and network. ``margins`` exports networks in fp32,
fp16 and bf16 (which no CPU kernel of ONNX Runtime knows: there the literal reading stands as engine, with a conversion
and no fidelity). ``faults`` plants the faults of ``faults.py`` into a sound export of ``prenet-small`` and counts who
finds them: clean parity, Polygraphy's comparison with as many random inputs as the attacks on the difference show to
the engine, those attacks, and all attacked images. Rows are kept: what has its row is left alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from faults import FAULTS, Graph, Ranges

from deploy_robust.app.networks import LITERAL as LITERAL_KIND
from deploy_robust.app.planning import cases_of_a_pair, pairs_of_attacks
from deploy_robust.app.registries import engine_kind, exporter
from deploy_robust.artefact.exporter import ExportRequest
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.attacks.attack import Access
from deploy_robust.attacks.registry import make_attack
from deploy_robust.data.scenes.source import SceneSource
from deploy_robust.engine import EngineOptions
from deploy_robust.engines.torch_module import TorchEngine
from deploy_robust.gate.crafting import PlannedAttack
from deploy_robust.gate.executor import LocalExecutor
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.quantities import DIVERGENCE, ENGINE, LITERAL, SOURCE
from deploy_robust.gate.records import CLEAN, Case
from deploy_robust.models.checkpoints import load_any, shipped
from deploy_robust.models.registry import MODELS
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploy_robust.attacks.attack import Attack, Crafted, Task
    from deploy_robust.data.pairs import PairSource
    from deploy_robust.gate.records import Measurement

RESULTS = Path(__file__).parent / "results"
SIZE = 32
PRECISIONS = ("fp32", "fp16", "bf16")
PAIRS = 24
"""Pairs of the check whose cost is told."""
NETWORK = "prenet-small"
"""What faults are planted in."""

Row = dict[str, Any]


class Remembered:
    """An attack whose images do not depend on the engine, crafted once for all engines of one source."""

    def __init__(self, attack: Attack) -> None:
        self.attack, self.name, self.access, self.settings = attack, attack.name, attack.access, attack.settings
        self.found: dict[Any, Crafted] = {}

    def craft(self, task: Task) -> Crafted:
        if task.keys not in self.found:
            self.found[task.keys] = self.attack.craft(task)
        return self.found[task.keys]


def attacks_of_the_policy() -> dict[str, Attack]:
    """Attacks by name; those that do not look at the engine are remembered."""
    made = {name: make_attack(name, **settings) for name, settings in load_policy("default").attacks.items()}
    return {
        name: Remembered(attack) if attack.access is not Access.QUERIES and name not in DIVERGENCE else attack
        for name, attack in made.items()
        if attack.access is not Access.QUERIES or name in DIVERGENCE
    }


def opened(path: Path, kind: str, io: IODescription) -> Restorer:
    engine, io = engine_kind(kind).open(path, EngineOptions(threads=1, io=io))
    return Restorer(engine, io)


def measured(
    engine: Restorer,
    source: Restorer,
    literal: Restorer | None,
    attacks: Mapping[str, Attack],
    pairs: PairSource,
    *,
    compared: bool = True,
) -> tuple[list[Measurement], dict[str, float]]:
    """All measurements of the engine, and CPU seconds by attack."""
    policy = load_policy("default")
    subjects = {ENGINE: engine, SOURCE: source} | ({} if literal is None else {LITERAL: literal})
    references = {"conversion": (ENGINE, SOURCE)} | ({} if literal is None else {"fidelity": (ENGINE, LITERAL)})
    planned = {}
    for name, attack in attacks.items():
        if name in DIVERGENCE:
            a, b = (SOURCE, LITERAL) if attack.access is Access.GRADIENTS else (ENGINE, SOURCE)
            if b in subjects:
                planned[name] = PlannedAttack(attack, a, minus=b)
        else:
            planned[name] = PlannedAttack(attack, SOURCE if attack.access is Access.GRADIENTS else None)
    executor = LocalExecutor(
        pairs=pairs,
        subjects=subjects,
        attacks=planned,
        metrics={},
        seed=0,
        deliveries=("8bit",),
        references=references,
        attacked_references=references if compared else None,
        clean_only=frozenset({LITERAL}),
    )
    only = pairs_of_attacks(policy, tuple(planned), pairs.ids())
    found: list[Measurement] = []
    seconds: dict[str, float] = {}
    for pair in pairs.ids():
        for name in (CLEAN, *planned):
            cases = tuple(
                Case(pair, attack, level)
                for attack, level in cases_of_a_pair(policy, tuple(planned))
                if attack == name and pair in only.get(name, (pair,))
            )
            begun = time.process_time()
            found += [m for m in executor.execute(cases).measurements if m.role == ENGINE] if cases else []
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - begun
    return found, seconds


def lowest(found: Sequence[Measurement], figure: str, attacks: Sequence[str]) -> tuple[float, str] | None:
    """The lowest PSNR in dB of a figure over attacks, and where."""
    values = [(m.values[f"{figure}_db"], str(m.case)) for m in found if m.case.attack in attacks and m.defect is None]
    return min(values, default=None)


def decibels(of: tuple[float, str] | None) -> float | None:
    return None if of is None else round(min(of[0], 200.0), 1)


# -- margins of healthy exports


def networks(names: Sequence[str]) -> dict[str, torch.nn.Module]:
    """Shipped weights, then the tiny and small presets with fresh ones, by the name of the row."""
    found = {}
    for name in shipped():
        if "scene" not in name and (not names or name in names):
            found[f"{name} (shipped)"] = load_any(name)[0]
    for preset in ("tiny", "small"):
        for name in MODELS.names():
            if preset in MODELS.spec(name).presets and (not names or {name, preset, f"{name}-{preset}"} & set(names)):
                torch.manual_seed(0)
                found[f"{name} {preset} (fresh)"] = MODELS.create(name, preset)
    return found


def margins(names: Sequence[str], count: int, out: Path) -> None:
    rows: list[Row] = json.loads(out.read_text())["rows"] if out.exists() else []
    for title, model in networks(names).items():
        model = model.eval().requires_grad_(False)
        attacks = attacks_of_the_policy()
        for precision in PRECISIONS:
            if any((row["network"], row["precision"]) == (title, precision) for row in rows):
                continue
            with tempfile.TemporaryDirectory() as folder:
                row = margin(model, precision, Path(folder) / f"net-{precision}.onnx", attacks, count)
            rows.append({"network": title, "precision": precision, **row})
            print(rows[-1], flush=True)
            write(out, {"size": SIZE, "images": count, "rows": rows})


def margin(model: Any, precision: str, path: Path, attacks: Mapping[str, Attack], count: int) -> Row:
    io = IODescription(size=model.size_rule)
    request = ExportRequest(path, model.for_export().eval().requires_grad_(False), model.size_rule, lambda _: ())
    exporter(precision).export(request)
    source, literal = Restorer(TorchEngine(model), io), opened(path, LITERAL_KIND, io)
    engine = literal if precision == "bf16" else opened(path, "onnxruntime", io)
    found, seconds = measured(engine, source, None if engine is literal else literal, attacks, scenes(count))
    row: Row = {"engine": "literal" if engine is literal else "onnxruntime"}
    plain = [name for name in attacks if name not in DIVERGENCE]
    for figure in ("conversion", "fidelity")[: 1 if engine is literal else 2]:
        row[figure] = {
            "clean": decibels(lowest(found, figure, (CLEAN,))),
            "attacked": decibels(lowest(found, figure, plain)),
            "divergence": decibels(lowest(found, figure, DIVERGENCE)),
        }
    row["defects"] = sum(m.defect is not None for m in found)
    row["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    return row


def scenes(count: int) -> PairSource:
    return SceneSource(count, size=(SIZE, SIZE))


# -- what it costs


def cost(count: int, out: Path) -> None:
    """CPU time that parity under attack adds to a check of 24 pairs by the attacks of the default policy."""
    model = load_any(NETWORK)[0].eval().requires_grad_(False)
    io, pairs, scopes = IODescription(size=model.size_rule), scenes(count), load_policy("default").scopes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        network = model.for_export().eval().requires_grad_(False)
        exporter("fp32").export(ExportRequest(path, network, model.size_rule, lambda _: ()))
        engine, literal = opened(path, "onnxruntime", io), opened(path, LITERAL_KIND, io)
        source, seconds = Restorer(TorchEngine(model), io), {}
        for compared in (False, True):
            attacks = attacks_of_the_policy()
            _, seconds[compared] = measured(engine, source, literal, attacks, pairs, compared=compared)
    plain = [name for name in seconds[False] if name not in DIVERGENCE]
    before, after = (sum(seconds[compared][name] for name in plain) * PAIRS / count for compared in (False, True))
    apart = {
        name: seconds[True][name] * (scopes[name].pairs or PAIRS) / min(scopes[name].pairs or PAIRS, count)
        for name in DIVERGENCE
    }
    row = {
        "network": NETWORK,
        "size": SIZE,
        "pairs": PAIRS,
        "seconds_before": round(before, 1),
        "references_on_attacked_images": round(after / before - 1, 3),
        **{name: round(value / before, 3) for name, value in apart.items()},
        "in_all": round((after + sum(apart.values())) / before - 1, 3),
    }
    print(row)
    write(out, row)


# -- faults


def faults(count: int, out: Path) -> None:
    """Plants every fault in turn; see the module."""
    model = load_any(NETWORK)[0].eval().requires_grad_(False)
    io, pairs, attacks = IODescription(size=model.size_rule), scenes(count), attacks_of_the_policy()
    source = Restorer(TorchEngine(model), io)
    bounds = bounds_of_the_policy()
    rows: list[Row] = json.loads(out.read_text())["rows"] if out.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.onnx"
        network = model.for_export().eval().requires_grad_(False)
        exporter("fp32").export(ExportRequest(sound, network, model.size_rule, lambda _: ()))
        ranges = Ranges(sound, [pairs[i].rainy for i in range(count)])
        for fault in FAULTS:
            if any(row["fault"] == fault.name for row in rows):
                continue
            path = Path(folder) / f"{fault.name}.onnx"
            graph = Graph.read(sound, ranges)
            fault.plant(graph)
            graph.write(path)
            engine = opened(path, "onnxruntime", io)
            # A fault of the file is in its own graph, too; one of the runtime is not.
            literal = opened(sound if fault.runtime else path, LITERAL_KIND, io)
            found, _ = measured(engine, source, literal, attacks, pairs)
            row = judged(found, bounds, [name for name in attacks if name not in DIVERGENCE])
            tolerance = bounds["max_abs"]
            row["polygraphy"] = polygraphy(sound, path, shown_by_divergence(), tolerance)
            rows.append({"fault": fault.name, "what": fault.what, "in": "runtime" if fault.runtime else "file", **row})
            print(rows[-1], flush=True)
            write(out, {"network": NETWORK, "size": SIZE, "images": count, "counts": counts(rows), "rows": rows})
    print(table(rows))


def bounds_of_the_policy() -> dict[str, float]:
    """The clean bounds of fp32, and that under attack."""
    lines = {line.quantity: line for line in load_policy("default").for_engine("fp32", ("conversion", "fidelity"))}
    return {
        "clean": lines["conversion"].at_least or 0.0,
        "max_abs": lines["conversion-max-abs"].at_most or 0.0,
        "attacked": lines["attacked-conversion"].at_least or 0.0,
    }


def judged(found: list[Measurement], bound: Mapping[str, float], plain: Sequence[str]) -> Row:
    apart = max(m.values["conversion_max_abs"] for m in found if m.case.attack == CLEAN)
    row: Row = {"defects": sum(m.defect is not None for m in found)}
    for name, attacks in (
        ("clean", (CLEAN,)),
        ("attacked", plain),
        *((each, (each,)) for each in DIVERGENCE),
    ):
        figures = {figure: lowest(found, figure, attacks) for figure in ("conversion", "fidelity")}
        least = bound["clean" if name == CLEAN else "attacked"]
        broken = any(figure is not None and figure[0] < least for figure in figures.values())
        if name == CLEAN:
            broken = broken or apart > bound["max_abs"]
        row[name] = {**{figure: decibels(value) for figure, value in figures.items()}, "found": broken}
        if name != CLEAN and broken:
            row[name]["worst"] = min(value for value in figures.values() if value is not None)[1]
    row["any"] = any(row[name]["found"] for name in ("attacked", *DIVERGENCE))
    return row


def shown_by_divergence() -> int:
    """Images that the attacks on the difference show to a network at most, in the default policy."""
    policy = load_policy("default")
    total = 0
    for name in DIVERGENCE:
        attack = make_attack(name, **policy.attacks[name])
        scope = policy.scopes[name]
        each = int(attack.settings.get("queries", attack.settings.get("iterations", 0)))
        total += each * (scope.pairs or 0) * len(scope.levels)
    return total


def polygraphy(sound: Path, faulty: Path, count: int, tolerance: float) -> Row:
    """What Polygraphy's own comparison says of so many random inputs, and the largest difference of any value."""
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.common import TensorMetadata
    from polygraphy.comparator import Comparator, DataLoader, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    import onnx

    (name,) = [value.name for value in onnx.load(str(sound)).graph.input]
    metadata = TensorMetadata().add(name, dtype=np.float32, shape=(1, 3, SIZE, SIZE))
    loader = DataLoader(seed=0, iterations=count, val_range=(0.0, 1.0), input_metadata=metadata)
    runners = [OnnxrtRunner(SessionFromOnnx(str(path)), name=path.stem) for path in (sound, faulty)]
    results = Comparator.run(runners, data_loader=loader)
    compare = SimpleCompareFunc(atol=tolerance, rtol=0.0, check_error_stat="max")
    agree = bool(Comparator.compare_accuracy(results, compare_func=compare))
    answers = zip(*(iterations for _, iterations in results.items()), strict=True)
    apart = max(float(np.abs(x[name] - y[name]).max()) for x, y in answers for name in x)
    return {"inputs": count, "max_abs": apart, "found": not agree}


def counts(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "planted": len(rows),
        "found by clean parity": sum(row["clean"]["found"] for row in rows),
        "found by polygraphy with random inputs": sum(row["polygraphy"]["found"] for row in rows),
        "found by the attacks on the difference": sum(any(row[name]["found"] for name in DIVERGENCE) for row in rows),
        "found by the other attacked images": sum(row["attacked"]["found"] for row in rows),
        "found on any attacked image": sum(row["any"] for row in rows),
    }


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| fault | in | clean | random inputs | other attacks | divergence | by queries |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]

    def cell(part: Row) -> str:
        figures = [value for value in (part["conversion"], part["fidelity"]) if value is not None]
        return f"{min(figures):.0f} dB{' **found**' if part['found'] else ''}" if figures else "-"

    for row in rows:
        random = row["polygraphy"]
        cells = [cell(row[name]) for name in ("clean", "attacked", *DIVERGENCE)]
        cells.insert(1, f"{random['max_abs']:.1e}{' **found**' if random['found'] else ''}")
        lines.append(f"| {row['what']} | {row['in']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{name}: {value}" for name, value in counts(rows).items())])


def write(out: Path, result: Row) -> None:
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"torch": torch.__version__, **result}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("margins", "faults", "cost"))
    parser.add_argument(
        "names", nargs="*", help="for margins: shipped weights, networks of the zoo, or tiny, small; all"
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.what == "margins":
        margins(chosen.names, chosen.images, chosen.out or RESULTS / "attacked-parity-margins.json")
    elif chosen.what == "cost":
        cost(chosen.images, chosen.out or RESULTS / "attacked-parity-cost.json")
    else:
        faults(chosen.images, chosen.out or RESULTS / "attacked-parity-faults.json")


if __name__ == "__main__":
    main()
