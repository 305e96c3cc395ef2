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

    An engine under test answers as it is deployed: one image in a call, or as many as its I/O description fixes, the
    other rows filled up with copies. Clean and attacked images are asked in the same way, whatever the batches of the
    run. Other networks answer as many images together as there are.

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
        if role in self._judged and len(cases) > 1:
            return self._one_by_one(role, x, cases, delivery)
        try:
            with torch.no_grad(), self._flying(role, x, cases, delivery):
                y = self._subjects[role](x)
        except EngineDefect as defect:
            if len(cases) == 1:
                return [Defect(defect.kind, str(defect))]
            return self._one_by_one(role, x, cases, delivery)
        return [_finite(y[i : i + 1]) for i in range(y.shape[0])]

    def _one_by_one(self, role: str, x: Tensor, cases: list[Case], delivery: Delivery) -> list[Tensor | Defect]:
        alone = [self.to(role, x[i : i + 1], [case], delivery) for i, case in enumerate(cases)]
        return [answer for answers in alone for answer in answers]

    def in_every_row(
        self, role: str, prepared: Prepared, case: Case, twin: Restorer | None = None
    ) -> Tensor | Defect | None:
        """The output on the rainy image from every batch of `row_answers`, or a defect.

        None where the engine takes one image at a time: there are no other rows.
        """
        restorer = self._subjects[role]
        if restorer.io.batch == 1:
            return None
        try:
            with torch.no_grad(), self._flying(role, prepared.rainy, [case], "8bit"):
                answers = row_answers(restorer, prepared.rainy, restorer.io.batch, twin)
        except EngineDefect as defect:
            return Defect(defect.kind, str(defect))
        return _finite(answers)

    def watched(
        self, role: str, cases: list[Case], rows: list[Prepared], draft: Restorer | None = None
    ) -> Callable[[Tensor], Tensor]:
        """The network of that role, or its draft, for an attack to call; calls are told under the images attacked."""
        restorer, rainy = draft or self._subjects[role], torch.cat([row.rainy for row in rows])
        together = restorer.io.batch or 1 if role in self._judged else None

        def call(x: Tensor) -> Tensor:
            with self._flying(role, rainy, cases, "float"):
                if together is None or x.shape[0] <= together:
                    return restorer(x)
                return torch.cat([restorer(part) for part in torch.split(x, together)])

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
