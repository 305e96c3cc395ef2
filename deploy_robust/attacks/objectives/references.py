"""The images that objectives compare the output with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from deploy_robust.attacks.threat import quantise
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from deploy_robust.attacks.attack import Task

Reference = Literal["clean-output", "clean-output-rounded", "ground-truth", "input"]


def check_reference(objective: str, reference: str) -> None:
    """Refuses a reference that there is not.

    Raises:
        UsageError: It is not one of `Reference`.
    """
    if reference not in get_args(Reference):
        raise UsageError(f"{objective}'s reference must be one of {', '.join(get_args(Reference))} (got {reference!r})")


def reference_of(task: Task, reference: Reference, objective: str) -> Tensor:
    """The image y of each row, (N, 3, H, W).

    Raises:
        UsageError: The task has no such image.
    """
    if reference == "input":
        return task.x
    image = task.ground_truth if reference == "ground-truth" else task.clean_output
    if image is None:
        missing = "ground truth" if reference == "ground-truth" else "clean output"
        raise UsageError(f"{objective} against the {reference} needs images with a {missing}: choose another reference")
    return quantise(image.clamp(0, 1)) if reference == "clean-output-rounded" else image
