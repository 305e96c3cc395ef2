"""The use case `replay`: one case of a run again, compared with what was stored."""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deploy_robust.app.judge import policy_of
from deploy_robust.app.recorded import RecordedRequest
from deploy_robust.app.reopening import NOTE, from_note
from deploy_robust.app.run_plan import require_judged
from deploy_robust.app.terms import judged_attacks
from deploy_robust.boundary import MalformedError
from deploy_robust.errors import ArtefactError, CheckpointError, InputError, RunError, UsageError
from deploy_robust.gate.quantities import ENGINE
from deploy_robust.gate.records import CLEAN, ROWS, Case
from deploy_robust.gate.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from deploy_robust.app.execution import Facts
    from deploy_robust.app.networks import EngineRequest
    from deploy_robust.app.pairs import PairsRequest
    from deploy_robust.gate.records import Measurement

TOLERANCE = 1e-3
"""Largest relative difference of a figure that counts as the same; a run on the machine that made it has none."""

_SMALLEST = 1e-6
"""Differences below this are the same whatever the figure: parity figures may be as small as their own rounding."""


_AS_WRITTEN = re.compile(r"(?P<pair>.+), (?:clean|(?P<attack>\S+) at (?P<level>\d+(?:\.\d+)?)/255)")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a network, stored and measured again.

    Attributes:
        role: Which network.
        delivery: How the image reached it.
        name: Metric; ``defect`` for what went wrong, ``input image`` and ``output image`` for SHA-256.
        stored: Then; None where there was none.
        now: Now; None where there is none.
        same: Whether they agree: within the tolerance, for images to the byte.
    """

    role: str
    delivery: str
    name: str
    stored: float | str | None
    now: float | str | None
    same: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """A case that ran again.

    Attributes:
        case: Which.
        figures: Everything that was compared.
        notes: What is not as it was when the run was made, like versions of libraries.
        same: Whether every figure agrees, and with a tolerance of 0 every image too.
    """

    case: Case
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    same: bool


def parse_case(words: Sequence[str]) -> Case:
    """A case as it is printed, in one word or several.

    That is ``PAIR ATTACK LEVEL``, ``PAIR ATTACK@LEVEL`` or ``PAIR clean``, or what reports write: ``PAIR, ATTACK at
    LEVEL/255`` or ``PAIR, clean``.

    Raises:
        UsageError: It is none.
    """
    text = " ".join(words)
    if written := _AS_WRITTEN.fullmatch(text):
        return Case(written["pair"], written["attack"] or CLEAN, float(written["level"] or 0))
    pair, _, rest = text.rpartition(" ")
    attack, at, level = rest.partition("@")
    if not at and _is_number(rest) and " " in pair:
        pair, _, attack = pair.rpartition(" ")
        level = rest
    if pair and attack == CLEAN and level in ("", "0"):
        return Case(pair)
    if not pair or not attack or not _is_number(level):
        raise UsageError(
            f"{text!r} names no case: write PAIR ATTACK LEVEL, like `scene-0003 pgd-lmse 2`, or PAIR clean"
        )
    return Case(pair, attack, float(level))


def replay(
    folder: Path,
    case: Case,
    *,
    tolerance: float = TOLERANCE,
    engine: Path | None = None,
    data: Path | None = None,
    outputs: Path | None = None,
) -> Replay:
    """Runs one case again, with those that were crafted together with it, in a process of its own.

    Args:
        folder: The run folder; nothing is written to it.
        case: Which.
        tolerance: Relative, see `TOLERANCE`; with 0 the images must be the same to the byte, too.
        engine: Where the engine lies now, if not where it was.
        data: Where the folder of images lies now, if not where it was.
        outputs: Where the recorded outputs lie now, likewise.

    Raises:
        RunError: There is no run, or it does not hold the case.
        InputError: Engine, source or images are not those of the run, or are not there.
    """
    from deploy_robust.app.execution import Execution
    from deploy_robust.gate.isolation import IsolatedExecutor

    with SqliteStore.read(folder) as store:
        require_judged(store.spec, folder)
        plan, note = store.spec, store.noted(NOTE, dict[str, Any] | None)
        number = store.batch_of(case)
        held = (CLEAN, ROWS, *judged_attacks(policy_of(store), plan.get("adapted", ())))
        if number is not None and case.attack not in held:
            raise store.damaged(MalformedError(f"is damaged (its plan has no attack {case.attack})"))
        if number is None:
            raise _no_such_case(store, case)
        batch = tuple(store.measurements(number))
        attacks = policy_of(store).attacks
        if note is None:
            raise RunError(
                f"the run in {folder} does not know how it was made: check the engine again to replay its cases"
            )
        try:
            engine_request, source, pairs, timeout, downstream = from_note(note, plan, folder)
        except MalformedError as error:
            raise store.damaged(error) from error
    if engine is not None:
        engine_request = replace(engine_request, path=engine)
    if outputs is not None:
        if not isinstance(engine_request, RecordedRequest):
            raise UsageError("--outputs says where recorded outputs lie, and the engine of this run ran here")
        engine_request = replace(engine_request, outputs=outputs)
    if data is not None:
        pairs = replace(pairs, what=str(data))
    _check_engine(engine_request, plan)
    _check_pairs(pairs, plan)
    execution = Execution(
        engine_request,
        source,
        pairs,
        attacks,
        plan["seed"],
        plan["threads"],
        rows=plan["batch"]["rows"],
        downstream=downstream,
        needs=tuple(plan.get("metrics", ())),
    )
    executor = IsolatedExecutor(execution, judged=frozenset({ENGINE}), timeout=timeout)
    try:
        facts = executor.start()
        _check_opened(facts, plan)
        # The rows of one attack share a batch, and rounding depends on the batch: all of them run again.
        # Images of a pair whose rows were probed were asked for twice, and are again.
        together = dict.fromkeys(m.case for m in batch if m.case.attack in (case.attack, ROWS))
        result = executor.execute(tuple(together))
    finally:
        executor.close()
    figures = tuple(_compare(_of(case, batch), _of(case, result.measurements), tolerance))
    exact = tolerance == 0
    same = all(figure.same for figure in figures if exact or not figure.name.endswith("image"))
    return Replay(case, figures, tuple(_changed(plan, facts.threads)), same)


def _compare(
    stored: Mapping[tuple[str, str], Measurement], now: Mapping[tuple[str, str], Measurement], tolerance: float
) -> Iterator[Figure]:
    for key in dict.fromkeys((*stored, *now)):
        before, after = (_facts(found.get(key)) for found in (stored, now))
        for name in dict.fromkeys((*before, *after)):
            a, b = before.get(name), after.get(name)
            yield Figure(*key, name, a, b, _equal(a, b, tolerance))


def _of(case: Case, measurements: Sequence[Measurement]) -> dict[tuple[str, str], Measurement]:
    return {(m.role, m.delivery): m for m in measurements if m.case == case}


def _facts(m: Measurement | None) -> dict[str, float | str]:
    if m is None:
        return {}
    facts: dict[str, float | str] = dict(m.values)
    if m.defect is not None:
        facts["defect"] = m.defect.kind
    images = {"input image": m.input_image, "output image": m.output_image}
    return facts | {name: sha256 for name, sha256 in images.items() if sha256}


def _equal(a: float | str | None, b: float | str | None, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=_SMALLEST if tolerance else 0.0)
    return a == b


def _check_opened(facts: Facts, plan: Mapping[str, Any]) -> None:
    source = facts.source
    if source is not None and source["weights_sha256"] != plan["source"]["weights_sha256"]:
        raise CheckpointError(
            f"the source {source['name']} has other weights than when the run was made: "
            "put the old file back, or check the engine again"
        )
    for task, known in plan.get("downstream", {}).items():
        if facts.downstream[task]["sha256"] != known["sha256"]:
            raise InputError(
                f"the downstream network {known['name']} is another one than when the run was made: "
                "put the old file back, or check the engine again"
            )
    outputs = (facts.engine or {}).get("outputs")
    if outputs is not None and outputs["sha256"] != plan["engine"]["outputs"]["sha256"]:
        raise InputError(
            f"the outputs in {outputs['folder']} are not those of the run: say where those are with --outputs DIR, or "
            "check again"
        )


def _check_engine(request: EngineRequest | RecordedRequest, plan: Mapping[str, Any]) -> None:
    from deploy_robust.artefact.hashing import identity_of

    if request.path is None:
        return
    wanted = plan["engine"]["sha256"]
    if not request.path.is_file():
        raise ArtefactError(f"the engine {request.path} of the run is not there: say where it is with --engine FILE")
    if (found := identity_of(request.path)) != wanted:
        raise ArtefactError(
            f"{request.path} is not the engine of the run (SHA-256 {found[:12]}, and {wanted[:12]} was checked): "
            "name that one with --engine FILE, or check this one into a run folder of its own"
        )


def _check_pairs(request: PairsRequest, plan: Mapping[str, Any]) -> None:
    from deploy_robust.app.pairs import open_pairs

    if json.loads(json.dumps(dict(open_pairs(request).identity))) != plan["pairs"]["identity"]:
        raise InputError(
            f"the images of {request.what} are not those of the run: say where those are with --data DIR, "
            "or check again"
        )


def _no_such_case(store: SqliteStore, case: Case) -> RunError:
    held = dict.fromkeys(m.case for m in store.measurements())
    near = difflib.get_close_matches(str(case), [str(each) for each in held], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`deploy-robust runs show` lists its worst cases"
    return RunError(f"the run in {store.folder} holds no case {str(case)!r}: {hint}")


def _changed(plan: Mapping[str, Any], threads: int) -> Iterator[str]:
    from deploy_robust.app.run_plan import versions

    now = versions()
    for name, version in plan["versions"].items():
        if now.get(name) != version:
            yield f"{name} was {version} and is {now.get(name, 'not there')}"
    if threads != plan["threads"]:
        yield f"it ran on {plan['threads']} threads and now on {threads}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
