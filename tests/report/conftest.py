"""Runs whose figures are known, without networks: what the executor would have stored, written by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from deploy_robust import keyed
from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.records import (
    BATCH_DB,
    CLEAN,
    INPUT,
    REPEAT_DB,
    ROWS,
    BatchResult,
    Case,
    Defect,
    Measurement,
    digest_of_image,
)
from deploy_robust.gate.store import SqliteStore
from deploy_robust.gate.table import Known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from deploy_robust.gate.records import Verdict

LEVELS = (1.0, 2.0, 4.0, 8.0)
ATTACKS = ("pgd-lmse", "uniform", "corners")
GUARD = "local-credit"
KNOWN = Known({"pgd-lmse": "gradients", GUARD: "queries"}, (GUARD,))

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m|`@team`\u202e[/bold] & co"
"""A file name that tries HTML, a terminal escape, Markdown, rich markup and a change of direction."""


@dataclass
class Fake:
    """A run to write: PSNR in dB of each network, and whatever else a test wants otherwise.

    Attributes:
        pairs: Ids; each is a scene of its own.
        rain: PSNR of the input.
        clean: By role, PSNR of the clean output.
        attacked: (role, attack, level) to PSNR under attack.
        plan: Entries that replace those of the default plan.
        defects: Cases on which the engine misbehaves.
        size: (height, width) of the images.
    """

    pairs: list[str] = field(default_factory=lambda: [f"pair-{i:02d}" for i in range(24)])
    rain: float = 18.0
    clean: dict[str, float] = field(default_factory=lambda: {"engine": 25.0, "source": 25.2})
    attacked: Callable[[str, str, float], float] = lambda role, attack, level: (
        24.0 - level * (0.4 if attack == "pgd-lmse" else 0.1) - (0.1 if role == "engine" else 0.0)
    )
    conversion: float = 40.0
    plan: dict[str, Any] = field(default_factory=dict)
    defects: tuple[Case, ...] = ()
    size: tuple[int, int] = (32, 40)
    stores: ClassVar[list[SqliteStore]] = []

    def write(self, folder: Path) -> tuple[SqliteStore, Verdict]:
        """Stores and judges the run."""
        policy = load_policy("default")
        terms = Terms((*ATTACKS, GUARD), policy.minimum_scenes, known=KNOWN)
        plan = {
            "engine": {"file": "net-int8.onnx", "sha256": "ab" * 32, "capabilities": {"runtime": "onnxruntime 1.31"}},
            "source": {"name": "net", "kind": "twin", "weights_sha256": "cd" * 32},
            "pairs": {"name": "test", "count": len(self.pairs)},
            "policy": policy.to_dict(),
            "precision": "int8",
            "terms": {
                "attacks": [*ATTACKS, GUARD],
                "minimum_scenes": policy.minimum_scenes,
                "caps": [],
                "access": dict(KNOWN.access),
                "partial": [GUARD],
            },
            "notes": ["images were padded"],
            "seed": 0,
        }
        store = SqliteStore.create_or_resume(folder, plan | self.plan)
        self.stores.append(store)
        for index, pair in enumerate(self.pairs):
            batch = (Case(pair), *(Case(pair, attack, level) for attack in ATTACKS for level in LEVELS))
            batch += (Case(pair, GUARD, 2.0),) if index < 6 else ()
            batch += (Case(pair, ROWS),) if index < 4 else ()
            store.append(index, batch, self._result(pair, batch, index))
        requirements = policy.for_engine("int8", {"conversion"})
        return store, judge(requirements, store.measurements(), terms)

    def _result(self, pair: str, batch: tuple[Case, ...], index: int) -> BatchResult:
        images: dict[str, NDArray[np.uint8]] = {}
        found = []
        wobble = 0.02 * (index % 5 - 2)

        def keep(*key: str | float) -> str:
            image = keyed.generator(1, pair, *key).integers(0, 255, (*self.size, 3)).astype(np.uint8)
            sha256 = digest_of_image(image)
            images[sha256] = image
            return sha256

        for case in batch:
            if case.attack == ROWS:
                found.append(Measurement(case, pair, "engine", "8bit", {BATCH_DB: math.inf}))
                continue
            clean = case.attack == CLEAN
            seen = keep("in", case.attack, case.level)
            if clean:
                found.append(Measurement(case, pair, INPUT, "8bit", {"psnr": self.rain, "ssim": 0.5}, input_image=seen))
            for role in self.clean:
                if role == "engine" and case in self.defects:
                    defect = Defect("nan", "1 % of the output values are not finite")
                    found.append(Measurement(case, pair, role, "8bit", defect=defect, input_image=seen))
                    continue
                psnr = self.clean[role] if clean else self.attacked(role, case.attack, case.level)
                values = {"psnr": psnr + wobble, "ssim": 0.8}
                if clean and role == "engine":
                    values["conversion_db"] = self.conversion
                    values[REPEAT_DB] = math.inf
                if not clean:
                    values["drift"] = 30.0 if case.attack == "pgd-lmse" else 40.0
                kept = keep("out", case.attack, case.level) if role == "engine" else ""
                found.append(Measurement(case, pair, role, "8bit", values, input_image=seen, output_image=kept))
        return BatchResult(tuple(found), images)


@pytest.fixture(scope="module")
def fake() -> Iterator[type[Fake]]:
    """Makes runs; their stores are closed when a module is through."""
    yield Fake
    while Fake.stores:
        Fake.stores.pop().close()


@pytest.fixture(scope="session")
def hostile() -> str:
    return HOSTILE
