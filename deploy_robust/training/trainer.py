"""The training loop: it can stop after any step and go on as if it had not."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from deploy_robust.artefact.files import make_folder, write_bytes
from deploy_robust.errors import RunError
from deploy_robust.models.weights_file import weights_sha256
from deploy_robust.training.average import WeightAverage
from deploy_robust.training.crops import CropSampler
from deploy_robust.training.losses import parse_loss
from deploy_robust.training.paper_losses import loss_text
from deploy_robust.training.plan import TrainingPlan
from deploy_robust.training.precision import Autocast, check_precision
from deploy_robust.training.schedule import cosine
from deploy_robust.training.state import read_state, write_state
from deploy_robust.training.validation import Score, validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.models.derainer import Derainer
    from deploy_robust.training.crops import Batch, PairPool

__all__ = ["LOG", "Ending", "Event", "StepDone", "Trainer", "TrainingPlan", "Validated"]

LOG = "log.jsonl"

_FREE = ("validate_every", "attacked")
"""Parts of a plan that may change between slices: they lead nowhere else."""

_BEFORE = {"accumulate": "1", "average": "0.0", "precision": "fp32"}
"""What states say that were saved before the plan knew these."""

_SAVE_SHARE = 0.05
"""The state is saved after a step as long as saving took less than this share of the time so far."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimiser step: its number from 1, the loss before it and its terms, the learning rate, seconds so far."""

    step: int
    loss: float
    terms: dict[str, float]
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Validated:
    """Scores on the held-out pairs after `step` steps."""

    step: int
    score: Score
    seconds: float


Event = StepDone | Validated

Ending = Literal["finished", "out of time", "interrupted"]


class Trainer:
    """Trains a model in place; see `run`.

    Args:
        model: Fresh, or with the weights to start from; moved to `device`.
        plan: What to do.
        pool: Pairs to learn from.
        held_out: Pairs to validate on.
        folder: Where state and log live; made if missing.
        device: Torch device string.

    Attributes:
        step: Steps done.
        curve: Validations so far.
        seconds: Time spent in all slices so far.
        notes: Messages for the user about how the state was found.
    """

    def __init__(
        self,
        model: Derainer,
        plan: TrainingPlan,
        pool: PairPool,
        held_out: PairPool,
        folder: Path,
        *,
        device: str = "cpu",
    ) -> None:
        check_precision(plan.precision, device)
        # Channels last is a third faster for these networks, on a CPU as on a GPU; the values are the same tensors.
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        plan = replace(plan, loss=loss_text(plan.loss, model.identity.name))
        self.plan, self.held_out, self.folder, self.device = plan, held_out, folder, device
        self.computing: Derainer = self.model
        if plan.precision != "fp32":
            self.computing = Autocast(self.model, torch.device(device).type, plan.precision)
        self.scaler = torch.amp.GradScaler("cuda", enabled=plan.precision == "fp16")
        self.averaged = WeightAverage(self.model, plan.average) if plan.average > 0 else None
        self.loss = parse_loss(plan.loss)
        if plan.adversary is not None:
            self.loss = self.loss.plus("adversary", plan.adversary_weight, plan.adversary)
        self.sampler = CropSampler(pool, size=plan.crop, rows=plan.batch, seed=plan.seed)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=plan.rate)
        self.step = 0
        self.seconds = 0.0
        self.curve: list[Validated] = []
        self.notes: list[str] = []
        # A state goes on only with what it began with.
        self._setting = {
            "model": str(model.identity),
            "arguments": json.dumps(dict(model.identity.arguments), sort_keys=True),
            "start": weights_sha256(model.state_dict()),
            "data": pool.digest,
            **{key: str(value) for key, value in plan.to_dict().items() if key not in _FREE},
        }

    @property
    def result(self) -> Derainer:
        """The network that is validated and kept: the average where there is one."""
        return self.model if self.averaged is None else self.averaged.model

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
        began_with = _BEFORE | state["setting"]
        differing = [key for key, value in self._setting.items() if began_with.get(key) != value]
        if differing:
            raise RunError(
                f"{self.folder} holds a training with another {', '.join(differing)}: "
                "repeat its options to go on, or choose another folder"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.averaged is not None:
            self.averaged.model.load_state_dict(state["average"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve = [Validated(p["step"], Score(**p["score"]), p["seconds"]) for p in state["curve"]]
        self._rewind_log()
        return True

    def run(
        self,
        on_event: Callable[[Event], None] = lambda _: None,
        *,
        max_minutes: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
    ) -> Ending:
        """Trains until the plan is done, the slice of time is used up, or `stop` says so; then saves the state.

        Args:
            on_event: Called after each step and each validation.
            max_minutes: Length of this slice.
            stop: Asked between steps.

        Raises:
            RunError: The loss is not finite; the last saved state stays.
        """
        make_folder(self.folder)
        began, before = time.monotonic(), self.seconds
        saving, saved = 0.0, -1
        with (self.folder / LOG).open("a", encoding="utf-8") as log:

            def tell(event: Event) -> None:
                kind = "step" if isinstance(event, StepDone) else "validation"
                log.write(json.dumps({"kind": kind, **asdict(event)}) + "\n")
                log.flush()
                on_event(event)

            ending: Ending = "finished"
            while self.step < self.plan.steps:
                if stop():
                    ending = "interrupted"
                    break
                if time.monotonic() - began >= max_minutes * 60:
                    ending = "out of time"
                    break
                done = self._train_one_step()
                self.seconds = before + time.monotonic() - began
                tell(StepDone(self.step, *done, self.seconds))
                if self.step % self.plan.validate_every == 0 or self.step == self.plan.steps:
                    score = validate(self.result, self.held_out, self.device, self.plan.attacked)
                    self.curve.append(Validated(self.step, score, self.seconds))
                    tell(self.curve[-1])
                now = time.monotonic()
                if saving < _SAVE_SHARE * (now - began):
                    self._save()
                    saving, saved = saving + time.monotonic() - now, self.step
        if saved != self.step:
            self._save()
        return ending

    def _train_one_step(self) -> tuple[float, dict[str, float], float]:
        plan = self.plan
        rate = cosine(self.step, steps=plan.steps, peak=plan.rate, final=plan.final_rate, warmup=plan.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = self._placed(self.sampler.batch(self.step))
        self.optimiser.zero_grad(set_to_none=True)
        loss, terms = 0.0, dict.fromkeys(self.loss.terms, 0.0)
        for part in batch.parts(plan.accumulate):
            value = self.loss(self.computing, part)
            loss += value.total.item() / plan.accumulate
            if not math.isfinite(loss):
                raise RunError(
                    f"the loss became {loss} at step {self.step + 1}: go on from the saved state with a lower rate"
                )
            self.scaler.scale(value.total / plan.accumulate).backward()  # type: ignore[no-untyped-call]
            terms = {name: terms[name] + term.item() / plan.accumulate for name, term in value.terms.items()}
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        if self.averaged is not None:
            self.averaged.update(self.model, self.step)
        return loss, terms, rate

    def _placed(self, batch: Batch) -> Batch:
        """A batch as the network computes it, keyed by seed and step."""
        rainy, clean = (x.to(self.device, memory_format=torch.channels_last) for x in (batch.rainy, batch.clean))
        return replace(batch, rainy=rainy, clean=clean, key=(self.plan.seed, self.step))

    def _save(self) -> None:
        state: dict[str, Any] = {
            "setting": self._setting,
            "step": self.step,
            "seconds": self.seconds,
            "curve": [asdict(point) for point in self.curve],
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        if self.averaged is not None:
            state["average"] = self.averaged.model.state_dict()
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        write_state(self.folder, state)

    def _rewind_log(self) -> None:
        """Drops lines of steps that the state does not hold: they are done again."""
        path = self.folder / LOG
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] > self.step:
                    continue
            except ValueError:  # half a line, from a crash
                continue
            kept.append(line)
        write_bytes(path, "".join(f"{line}\n" for line in kept).encode())
