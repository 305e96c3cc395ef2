"""Whether a finished artefact is what it should be: both parity figures, clean quality and speed, measured once."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from deploy_robust.app.registries import engine_kind, engine_kind_for
from deploy_robust.artefact.hashing import sha256_of
from deploy_robust.artefact.manifest import IDENTICAL, ParityFigure
from deploy_robust.artefact.onnx_graph import inspect, read_graph
from deploy_robust.artefact.precision import shares_of
from deploy_robust.engine import UNKNOWN, EngineOptions
from deploy_robust.errors import ArtefactError, EngineDefect, ExportError
from deploy_robust.gate.parity import CONVERSION, FIDELITY, parity, worst
from deploy_robust.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.app.exporting.images import Crop
    from deploy_robust.artefact.exporter import Exporter
    from deploy_robust.artefact.io_description import IODescription
    from deploy_robust.gate.parity import Bound, ImageParity
    from deploy_robust.models.derainer import Derainer

TORCH, LITERAL = "torch", "literal"
"""The two references, as manifests name them: the network itself, and the literal reading of the artefact's graph."""

_TIMED_RUNS = 3


@dataclass(frozen=True, slots=True)
class Verified:
    """What was measured of an artefact before it got its name.

    Attributes:
        parity: Worst figure of each size against each reference.
        clean_psnr_db: Mean PSNR to ground truth of its outputs, clipped to [0, 1]; None without ground truth.
        seconds: Shortest time of one pass over the largest crop; None where its own runtime did not run it.
        notes: What could not be measured, and why.
    """

    parity: tuple[ParityFigure, ...]
    clean_psnr_db: float | None
    seconds: float | None
    notes: tuple[str, ...] = ()


class Verifier:
    """Measures artefacts of one network on the same crops; the network's own answers are computed once.

    Args:
        network: The float32 source, in eval mode.
        io: Its I/O description.
        crops: At least one image.
    """

    def __init__(self, network: Derainer, io: IODescription, crops: Sequence[Crop]) -> None:
        self._network, self._io, self._crops = network, io, tuple(crops)
        self._answers: tuple[Tensor, ...] | None = None
        self._literal: dict[Path, tuple[Tensor, ...]] = {}

    def verify(
        self, each: Exporter, precision: str, file: Path, graph: Path | None, fp32: Path | None = None
    ) -> Verified:
        """Measures a finished file.

        Args:
            each: Who made it.
            precision: Its precision.
            file: The artefact, maybe under a temporary name.
            graph: The ONNX graph that says what it computes; None where there is none.
            fp32: The float32 graph, to name the layer at which another one leaves it.

        Raises:
            ExportError: It does not run, or parity is broken; the layer where it breaks is named where that is known.
        """
        if file.suffix == ".onnx":
            shares = shares_of(read_graph(file), file.parent)
            _require(each, precision, shares.judged, str(shares))
        conversion, fidelity = _bound(CONVERSION, each, precision), _bound(FIDELITY, each, precision)
        why = partial(self._culprit, graph, fp32)
        candidate = _opened(each, file, self._io)
        found = candidate.capabilities
        if found.precision != UNKNOWN:
            _require(each, precision, found.precision, found.tags.get("work", found.precision))
        outputs: list[Tensor] = []

        def recorded(batch: Tensor) -> Tensor:
            outputs.append(candidate(batch))
            return outputs[-1]

        notes = []
        try:
            figures = self._compared(each, TORCH, self._of_torch(), recorded, conversion, why)
            read_literally = each.opening.kind == LITERAL
            if read_literally:
                notes.append("no runtime here computes this precision: run literally, so fidelity says nothing")
            elif isinstance(literal := self._of_literal(graph, each, precision), str):
                notes.append(f"fidelity not measured: {literal}")
            else:
                answers = iter(tuple(outputs))
                figures += self._compared(each, LITERAL, literal, lambda _: next(answers), fidelity, why)
            seconds = None if read_literally else self._timed(candidate)
        except EngineDefect as defect:
            raise ExportError(f"the {each.name} artefact does not run ({defect}); nothing was left behind") from defect
        finally:
            candidate.close()
        return Verified(tuple(figures), self._quality(outputs), seconds, tuple(notes))

    def _compared(
        self,
        each: Exporter,
        name: str,
        reference: Sequence[Tensor],
        candidate: Callable[[Tensor], Tensor],
        bound: Bound,
        why: Callable[[], str],
    ) -> list[ParityFigure]:
        right = iter(reference)
        figures = list(parity(lambda _: next(right), candidate, (crop.rainy for crop in self._crops)))
        for figure in figures:
            if not bound.holds(figure):
                raise ExportError(
                    f"parity of {each.name} against {name} is broken at {figure}, and the bound is {bound}"
                    f"{why()}; nothing was left behind"
                )
        return list(_summed_up(name, figures))

    def _culprit(self, graph: Path | None, fp32: Path | None) -> str:
        """The layer at which a reduced-precision graph leaves the float32 one, as a clause; empty where unknown."""
        from deploy_robust.app.exporting.culprit import culprit

        if graph is None:
            return ""
        found = culprit(graph, fp32, self._crops[0].rainy)
        return "" if found is None else f"; {found}"

    def _of_torch(self) -> tuple[Tensor, ...]:
        if self._answers is None:
            from deploy_robust.engines.torch_module import TorchEngine

            self._answers = self._run(Restorer(TorchEngine(self._network), self._io))
        return self._answers

    def _of_literal(self, graph: Path | None, each: Exporter, precision: str) -> tuple[Tensor, ...] | str:
        """What the graph says literally, or why it cannot be read so."""
        if graph is None:
            return "the artefact comes from no graph"
        if graph.suffix != each.suffix and (of_graph := inspect(graph).precision) != precision:
            return f"it was made {precision} from {graph.name}, which is {of_graph}"
        if graph not in self._literal:
            try:
                self._literal[graph] = self._run(
                    Restorer(*engine_kind(LITERAL).open(graph, EngineOptions(io=self._io)))
                )
            except (ArtefactError, EngineDefect) as error:
                return str(error)
        return self._literal[graph]

    def _run(self, restorer: Restorer) -> tuple[Tensor, ...]:
        import torch

        try:
            with torch.no_grad():
                return tuple(restorer(crop.rainy).detach().cpu() for crop in self._crops)
        finally:
            restorer.close()

    def _quality(self, outputs: Sequence[Tensor]) -> float | None:
        found = []
        for crop, output in zip(self._crops, outputs, strict=True):
            if crop.truth is None:
                return None
            error = float((output.cpu().double().clamp(0, 1) - crop.truth.double()).square().mean())
            found.append(math.inf if error == 0 else -10 * math.log10(error))
        return sum(found) / len(found)

    def _timed(self, candidate: Restorer) -> float:
        """Shortest of some passes over the largest crop; the answer is fetched, so that a GPU has finished."""
        batch = max((crop.rainy for crop in self._crops), key=lambda rainy: rainy.numel())
        found = []
        for _ in range(_TIMED_RUNS):
            started = time.perf_counter()
            candidate(batch).cpu()
            found.append(time.perf_counter() - started)
        return min(found)


def _bound(bounds: Mapping[str, Bound], each: Exporter, precision: str) -> Bound:
    found = bounds.get(precision)
    if found is None:
        raise ExportError(f"no parity bound is known for precision {precision!r} of exporter {each.name}")
    return found


def _require(each: Exporter, precision: str, judged: str, work: str) -> None:
    """Refuses an artefact whose name would promise another precision than most of its work is done in."""
    if judged != precision:
        raise ExportError(
            f"the {each.name} artefact computes {work}, so that it is judged as {judged} and not as {precision}: "
            "leave less of it in float (--quantise-ends, fewer --keep-fp32), or export another precision; "
            "nothing was left behind"
        )


def _opened(each: Exporter, file: Path, io: IODescription) -> Restorer:
    """What was written here a moment ago may run here, though no manifest vouches for it yet."""
    kind = engine_kind(each.opening.kind) if each.opening.kind is not None else engine_kind_for(file)
    how = each.opening
    options = EngineOptions(device=how.device, arithmetic=how.arithmetic, vouched=sha256_of(file), io=io)
    return Restorer(*kind.open(file, options))


def _summed_up(reference: str, figures: Sequence[ImageParity]) -> Iterator[ParityFigure]:
    """The worst figure of each size, in the order in which sizes first came."""
    for size in dict.fromkeys(figure.size for figure in figures):
        same = [figure for figure in figures if figure.size == size]
        low = worst(same)
        yield ParityFigure(reference, size, len(same), IDENTICAL if low.identical else low.psnr_db, low.max_abs)
