"""The loop of every training: it can stop after any step and go on as if it had not."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from deploy_robust.artefact.files import make_folder, write_bytes
from deploy_robust.boundary import Holding, MalformedError, parse_json, validated
from deploy_robust.errors import RunError
from deploy_robust.models.weights_file import weights_sha256
from deploy_robust.training.state import read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from deploy_robust.models.derainer import ModelIdentity

LOG = "log.jsonl"

_SAVE_SHARE = 0.05
"""The state is saved after a step as long as saving took less than this share of the time so far."""

S = TypeVar("S")
"""What a validation finds: a dataclass of plain data."""

Ending = Literal["finished", "out of time", "interrupted"]


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimiser step: its number from 1, the loss before it and its terms, the learning rate, seconds so far."""

    step: int
    loss: float
    terms: dict[str, float]
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Validated(Generic[S]):
    """Scores on the held-out data after `step` steps."""

    step: int
    score: S
    seconds: float


class Stateful(Protocol):
    """What a training changes as it goes: a network, an optimiser."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...  # noqa: D102


class TrainingLoop(ABC, Generic[S]):
    """Trains in slices; a subclass says what one step is, and what a validation.

    Draws are keyed by the number of the step, so that step, changing parts and curve are all there is to keep.

    Args:
        folder: Where state and log live; made if missing.
        steps: Steps in all.
        validate_every: Steps between validations; the last step is always followed by one.
        setting: What decides where the training leads: a state goes on only with what it began with.
        changing: Everything that a step changes, by the name under which states hold it.
        score: Makes a score of what `asdict` made of one.

    Attributes:
        step: Steps done.
        curve: Validations so far.
        seconds: Time spent in all slices so far, by `clock`.
        notes: Messages for the user about how the state was found.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)
    """What `seconds` are counted by."""

    before: ClassVar[Mapping[str, str]] = {}
    """What settings say that were saved before they knew these."""

    def __init__(
        self,
        folder: Path,
        *,
        steps: int,
        validate_every: int,
        setting: Mapping[str, str],
        changing: Mapping[str, Stateful],
        score: Callable[..., S],
    ) -> None:
        self.folder = folder
        self.steps, self.validate_every = steps, validate_every
        self.step, self.seconds = 0, 0.0
        self.curve: list[Validated[S]] = []
        self.notes: list[str] = []
        self._setting, self._changing, self._score = dict(setting), changing, score

    @abstractmethod
    def _train_one_step(self) -> tuple[float, dict[str, float], float]:
        """Step number `self.step`, from 0; loss, its terms, and the learning rate."""

    @abstractmethod
    def _validate(self) -> S:
        """Scores what was learnt so far."""

    def resume(self) -> bool:
        """Takes up the newest whole state in the folder; False where there is none.

        Raises:
            RunError: The state belongs to another training, or every state is damaged.
        """
        state, note = read_state(self.folder)
        if note is not None:
            self.notes.append(note)
        if state is None:
            return False
        began_with = {**self.before, **state["setting"]}
        differing = [key for key, value in self._setting.items() if began_with.get(key) != value]
        if differing:
            raise RunError(
                f"{self.folder} holds a training with another {', '.join(differing)}: "
                "repeat its options to go on, or choose another folder"
            )
        for name, part in self._changing.items():
            part.load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve = [Validated(p["step"], self._score(**p["score"]), p["seconds"]) for p in state["curve"]]
        self._rewind_log()
        return True

    def run(
        self,
        on_event: Callable[[StepDone | Validated[S]], None] = lambda _: None,
        *,
        max_minutes: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
    ) -> Ending:
        """Trains until all steps are done, the slice of wall time is used up, or `stop` says so; then saves the state.

        Args:
            on_event: Called after each step and each validation.
            max_minutes: Length of this slice.
            stop: Asked between steps.

        Raises:
            RunError: The loss is not finite; the last saved state stays.
        """
        make_folder(self.folder)
        began, before, used = time.monotonic(), self.seconds, self.clock()
        saving, saved = 0.0, -1
        with (self.folder / LOG).open("a", encoding="utf-8") as log:

            def tell(event: StepDone | Validated[S]) -> None:
                kind = "step" if isinstance(event, StepDone) else "validation"
                log.write(json.dumps(_plain({"kind": kind, **asdict(event)}), allow_nan=False) + "\n")
                log.flush()
                on_event(event)

            ending: Ending = "finished"
            while self.step < self.steps:
                if stop():
                    ending = "interrupted"
                    break
                if time.monotonic() - began >= max_minutes * 60:
                    ending = "out of time"
                    break
                done = self._train_one_step()
                self.step += 1
                self.seconds = before + self.clock() - used
                tell(StepDone(self.step, *done, self.seconds))
                if self.step % self.validate_every == 0 or self.step == self.steps:
                    self.curve.append(Validated(self.step, self._validate(), self.seconds))
                    tell(self.curve[-1])
                now = time.monotonic()
                if saving < _SAVE_SHARE * (now - began):
                    self._save()
                    saving, saved = saving + time.monotonic() - now, self.step
        if saved != self.step:
            self._save()
        return ending

    def _save(self) -> None:
        state: dict[str, Any] = {
            "setting": self._setting,
            "step": self.step,
            "seconds": self.seconds,
            "curve": [asdict(point) for point in self.curve],
        }
        write_state(self.folder, state | {name: part.state_dict() for name, part in self._changing.items()})

    def _rewind_log(self) -> None:
        """Drops lines of steps that the state does not hold: they are done again."""
        path = self.folder / LOG
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                step = validated(Annotated[dict[str, Any], Holding(step=int)], parse_json(line))["step"]
            except MalformedError:  # half a line, from a crash
                continue
            if step > self.step:
                continue
            kept.append(line)
        write_bytes(path, "".join(f"{line}\n" for line in kept).encode())


def began_with(identity: ModelIdentity, weights: Mapping[str, Tensor], data: str) -> dict[str, str]:
    """The part of a setting that network and data make up, beside the network's name.

    Args:
        identity: Of the network.
        weights: What it starts from.
        data: Digest of what it learns from.
    """
    return {
        "arguments": json.dumps(dict(identity.arguments), sort_keys=True),
        "start": weights_sha256(weights),
        "data": data,
    }


def _plain(value: Any) -> Any:
    """JSON knows no NaN: a figure that is not a number is null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
