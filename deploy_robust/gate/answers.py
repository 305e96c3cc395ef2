"""What networks answer, or the defect that came instead; a supervisor is told of every call."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from deploy_robust.errors import EngineDefect
from deploy_robust.gate.images import codes_of, to_image
from deploy_robust.gate.records import Case, Defect, Flight
from deploy_robust.gate.row_probe import row_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from deploy_robust.gate.prepared import Prepared, PreparedPairs
    from deploy_robust.gate.records import Delivery
    from deploy_robust.restorer import Restorer


class Answers:
    """Asks networks, and keeps their answers to clean images.

    Args:
        subjects: Networks by role.
        pairs: The pairs that cases name.
        judged: Roles of the engines under test: a supervisor is also told the images that they see.
        notify: Told of every call of a network before it begins, and None after it, so that a supervisor knows what was
            in flight when this process ended.
    """

    def __init__(
        self,
        subjects: Mapping[str, Restorer],
        pairs: PreparedPairs,
        judged: frozenset[str],
        notify: Callable[[Flight | None], None] | None,
    ) -> None:
        self._subjects, self._pairs, self._judged, self._notify = subjects, pairs, judged, notify

    def clean(self, prepared: Prepared, role: str) -> Tensor | Defect:
        """The output on the rainy image, (1, 3, H, W), or a defect; asked for once."""
        if role not in prepared.clean:
            (prepared.clean[role],) = self.to(role, prepared.rainy, [Case(prepared.pair.id)], "8bit")
        return prepared.clean[role]

    def to(self, role: str, x: Tensor, cases: list[Case], delivery: Delivery) -> list[Tensor | Defect]:
        """One output (1, 3, H, W) or defect for each row of `x`, which belongs to the case of the same place."""
        try:
            with torch.no_grad(), self._flying(role, x, cases, delivery):
                y = self._subjects[role](x)
        except EngineDefect as defect:
            if len(cases) == 1:
                return [Defect(defect.kind, str(defect))]
            alone = [self.to(role, x[i : i + 1], [case], delivery) for i, case in enumerate(cases)]
            return [answer for answers in alone for answer in answers]
        return [_finite(y[i : i + 1]) for i in range(y.shape[0])]

    def in_parts(
        self, role: str, x: Tensor, cases: list[Case], delivery: Delivery, size: int
    ) -> Iterator[Tensor | Defect]:
        """The same, so many rows in a call."""
        for start in range(0, len(cases), size):
            yield from self.to(role, x[start : start + size], cases[start : start + size], delivery)

    def in_every_row(self, role: str, prepared: Prepared, case: Case) -> Tensor | Defect:
        """The output on the rainy image from each row of a batch, as `row_answers` asks for it, or a defect."""
        try:
            with torch.no_grad(), self._flying(role, prepared.rainy, [case], "8bit"):
                answers = row_answers(self._subjects[role], prepared.rainy)
        except EngineDefect as defect:
            return Defect(defect.kind, str(defect))
        return _finite(answers)

    def watched(
        self, role: str, cases: list[Case], rows: list[Prepared], draft: Restorer | None = None
    ) -> Callable[[Tensor], Tensor]:
        """The network of that role, or its draft, for an attack to call; calls are told under the images attacked."""
        restorer, rainy = draft or self._subjects[role], torch.cat([row.rainy for row in rows])

        def call(x: Tensor) -> Tensor:
            with self._flying(role, rainy, cases, "float"):
                return restorer(x)

        return call

    @contextmanager
    def _flying(self, role: str, x: Tensor, cases: list[Case], delivery: Delivery) -> Iterator[None]:
        """Tells of a call before it begins and after it has ended."""
        if self._notify is None:
            yield
            return
        images = tuple(to_image(row) for row in codes_of(x)) if role in self._judged else ()
        scenes = tuple(self._pairs(case.pair).pair.scene for case in cases)
        self._notify(Flight(role, tuple(cases), scenes, delivery, images))
        try:
            yield
        finally:
            self._notify(None)


def _finite(y: Tensor) -> Tensor | Defect:
    if bool(torch.isfinite(y).all()):
        return y
    kind = "nan" if bool(torch.isnan(y).any()) else "inf"
    share = float((~torch.isfinite(y)).to(torch.float32).mean())
    return Defect(kind, f"{share:.1%} of the output values are not finite")
