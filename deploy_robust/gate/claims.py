"""What may be said of a test by betting, in a sentence: no more than its procedure allows.

A claim is about the registered suite and budget on the named units. It says nothing about perturbations that were not
tried, and a FAIL alone carries further: every violation that was found is real.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from deploy_robust.gate.quantities import quantity
from deploy_robust.gate.records import FAILURE_RATE

if TYPE_CHECKING:
    from deploy_robust.gate.records import Requirement
    from deploy_robust.gate.registration import Registration
    from deploy_robust.statistics.course import Course


def claim(
    line: Requirement,
    level: float | None,
    course: Course,
    limits: tuple[float, float],
    registration: Registration,
) -> str:
    """The sentence.

    Args:
        line: What was tested.
        level: Epsilon in grey levels; None for clean quantities.
        course: How it went.
        limits: Of the failure rate, or of the mean in its own unit.
        registration: What was fixed beforehand.
    """
    suite = f"the registered suite ({registration.suite})" + (f" at epsilon {level:g}/255" if level else "")
    alphas = registration.alphas(line)
    evidence = _evidence(line, course, limits, alphas[0])
    if registration.total is not None:
        return f"{_of_set(line, course, suite, registration)} {evidence}"
    if line.statistic == FAILURE_RATE:
        stated = f"{suite} finds a violation of [{kept(line)}] with probability"
        bound, below, above = f"{line.p0:g}", "below", "above"
    else:
        what = quantity(line.quantity)
        stated = f"the mean of [{what.meaning}] under {suite}, values above {line.cap:g} {what.unit} cut off, is"
        bound, below, above = f"{line.at_least:g} {what.unit}", "at least", "below"
    if course.passed is None:
        low, high = (f"{limit:.4g}" for limit in limits)
        return (
            f"Over units drawn from {registration.source}, it is open whether {stated} {below} {bound}: the interval "
            f"[{low}, {high}] reaches across it. {evidence}"
        )
    alpha = alphas[0] if course.passed else alphas[1]
    text = (
        f"Over units drawn from {registration.source}, {stated} {below if course.passed else above} {bound}; a "
        f"procedure with at most {alpha:.3g} error in this claim was used."
    )
    if not course.passed and line.statistic == FAILURE_RATE:
        text += " Every violation that was found is real: the counterexamples are attached."
    return f"{text} {evidence}"


def kept(line: Requirement) -> str:
    """What a unit must keep, in words: the property whose violation is searched for."""
    what = quantity(line.quantity)
    sides = [
        *([] if line.at_least is None else [f"at least {line.at_least:g}"]),
        *([] if line.at_most is None else [f"at most {line.at_most:g}"]),
    ]
    return f"{what.meaning}: {' and '.join(sides)} {what.unit}".rstrip()


def _of_set(line: Requirement, course: Course, suite: str, registration: Registration) -> str:
    total = registration.total or 0
    if line.statistic == FAILURE_RATE:
        most = math.floor((line.p0 or 0.0) * total + 1e-9)
        stated = f"{suite} finds a violation of [{kept(line)}] on"
        images = f"of the {total} images of {registration.source}"
        good = f"{stated} at most {most} {images}"
        text = {True: good, False: f"{stated} more than {most} {images}", None: good}
    else:
        what = quantity(line.quantity)
        stated = f"the mean of [{what.meaning}] over the {total} images of {registration.source} under {suite} is"
        bound = f"{line.at_least:g} {what.unit}"
        text = {
            True: f"{stated} at least {bound}",
            False: f"{stated} below {bound}",
            None: f"{stated} at least {bound}",
        }
    if course.passed is None:
        return f"It is open whether {text[None]}."
    if course.exact:
        how = "this is exact"
    else:
        how = f"a procedure with at most {registration.alphas(line)[0]:.3g} error in this claim was used"
    sentence = f"{text[course.passed]}; {how}. This says nothing about other images."
    return sentence[0].upper() + sentence[1:]


def _evidence(line: Requirement, course: Course, limits: tuple[float, float], alpha: float) -> str:
    low, high = (f"{limit:.4g}" for limit in limits)
    confidence = f"{1 - alpha:.3g}"
    ends = f"[{low}, {high}], each end at confidence {confidence}"
    if line.statistic == FAILURE_RATE:
        failed = sum(loss > 0 for loss in course.losses)
        return f"{failed} of {course.units} units failed; the rate lies in {ends}."
    return f"{course.units} units were measured; the mean lies in {ends}."
