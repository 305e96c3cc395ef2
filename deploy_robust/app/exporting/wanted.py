"""Which exporters make what a user asked for by precision and target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_robust.app.registries import exporter, exporter_names
from deploy_robust.errors import EnvironmentProblem, UsageError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploy_robust.artefact.exporter import Exporter

ONNX = "onnx"
"""The target of exporters that write the graphs themselves."""

_ALSO_KNOWN_AS = {"int8-ort": "int8"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One artefact to be made.

    Attributes:
        name: The precision as asked for; it becomes part of the file's name.
        exporter: Who makes it.
        start: Name of the exporter of the graph that it starts from; None where it starts from the network.
        precision: Key of the parity bounds: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``fp8``.
    """

    name: str
    exporter: Exporter
    start: str | None
    precision: str


def wanted(precisions: Sequence[str], targets: Sequence[str]) -> list[Wanted]:
    """One artefact for each precision and target, graphs first, nothing twice.

    Raises:
        UsageError: A precision or a target is unknown, or a target has no such precision.
    """
    # One that does not load is only in the way when it is asked for by name, and then says so itself.
    every = _exporters(lambda *_: None)
    known = sorted({each.target for each in every})
    for target in targets:
        if target not in known:
            raise UsageError(f"no exporter writes for target {target!r}: {instead_of(target, known)}")
    ordered = sorted(dict.fromkeys(targets), key=lambda target: target != ONNX)
    return [
        _one(_ALSO_KNOWN_AS.get(name, name), target, every)
        for target in ordered
        for name in dict.fromkeys(_ALSO_KNOWN_AS.get(name, name) for name in precisions)
    ]


def everything(on_broken: Callable[[str, str], None] | None = None) -> list[Wanted]:
    """Every precision of every target whose exporter is installed here.

    Args:
        on_broken: Told of an exporter that does not load, and why. None raises instead.

    Raises:
        EnvironmentProblem: An exporter does not load.
    """
    every = _exporters(on_broken)
    graphs = [each for each in every if each.target == ONNX]
    found = [_of(each.name, each) for each in graphs]
    for each in every:
        if each.target == ONNX:
            continue
        if each.precision is not None:
            found.append(_of(each.name, each))
        else:
            found.extend(_following(each, graph) for graph in graphs)
    return found


def _exporters(on_broken: Callable[[str, str], None] | None) -> list[Exporter]:
    """All that load, fp32 first."""
    found = []
    for name in sorted(exporter_names(), key=lambda name: name != "fp32"):
        try:
            found.append(exporter(name))
        except EnvironmentProblem as error:
            if on_broken is None:
                raise
            on_broken(name, str(error))
    return found


def _one(name: str, target: str, every: Sequence[Exporter]) -> Wanted:
    here = [each for each in every if each.target == target]
    for each in here:
        if each.name == name:
            return _of(name, each)
    if target == ONNX:
        exporter(name)  # names the nearest one, or says why it does not load
    for each in here:
        if each.precision == name:
            return _of(name, each)
    graphs = {each.name: each for each in every if each.target == ONNX}
    for each in here:
        if each.precision is None and name in graphs:
            return _following(each, graphs[name])
    words = sorted({each.name for each in here if each.precision is not None} | (set(graphs) if here else set()))
    raise UsageError(f"target {target} has no precision {name!r}: {instead_of(name, words)}")


def _of(name: str, each: Exporter) -> Wanted:
    if each.precision is None:
        return _following(each, exporter(each.starts_from or "fp32"))
    return Wanted(name, each, each.starts_from, each.precision)


def _following(each: Exporter, graph: Exporter) -> Wanted:
    return Wanted(graph.name, each, graph.name, graph.precision or "fp32")
