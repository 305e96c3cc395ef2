"""What a comparison is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_robust.app.pairs import PairsRequest
from deploy_robust.errors import UsageError
from deploy_robust.gate.policy import DEFAULT
from deploy_robust.gate.records import INPUT

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.app.networks import EngineRequest, SourceRequest
    from deploy_robust.gate.policy import Policy

OWN = "own"
"""Source: the network that each engine was made from, as its manifest says."""

LITERAL = "literal"
"""Source: each engine's own graph, read literally; not of fp32 graphs, which compute what their network computes."""

SHIPPED = "shipped"
"""Source: all weights that come with deploy-robust."""

GROUPS = (OWN, LITERAL, SHIPPED)


@dataclass(frozen=True, slots=True)
class NamedEngine:
    """An engine of a comparison.

    Attributes:
        name: What it is called there.
        request: Its file and how it is opened.
        build_of: Name of the engine that it is another build of; None for the engines themselves.
        how: How that build was made.
    """

    name: str
    request: EngineRequest
    build_of: str | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Everything that a comparison depends on.

    Attributes:
        engines: The engines, at least one.
        out: Run folder; an interrupted comparison goes on there.
        groups: Sources by what they are to the engines: `OWN`, `LITERAL`, `SHIPPED`.
        sources: Further networks that attacks are crafted on.
        pairs: What is attacked.
        policy: Name of a shipped policy, a TOML file, or a policy: it holds attacks, epsilons and parity bounds.
        rebuild: Builds of each engine, the given file included.
        max_gap: Bound in dB on the gap of each engine to the networks that it was made from; None for none.
        device: Torch device string of the sources.
        seed: All random draws are keyed by it.
        threads: Threads of torch; None leaves torch's own choice.
        pairs_per_batch: Pairs executed and committed together; None: 1 on a CPU, 8 on a GPU.
        rows: Images attacked together at most; None takes all epsilons of a batch's pairs.
        timeout: Seconds that one call of a network may take before it counts as hanging.
        max_minutes: When to stop beginning batches; the same request goes on later.
    """

    engines: tuple[NamedEngine, ...]
    out: Path
    groups: tuple[str, ...] = (OWN, LITERAL)
    sources: tuple[SourceRequest, ...] = ()
    pairs: PairsRequest = field(default_factory=PairsRequest)
    policy: str | Path | Policy = DEFAULT
    rebuild: int = 1
    max_gap: float | None = None
    device: str = "cpu"
    seed: int = 0
    threads: int | None = None
    pairs_per_batch: int | None = None
    rows: int | None = None
    timeout: float = 300.0
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        """Checks what can be known before anything is opened.

        Raises:
            UsageError: There is no engine, two share a name, or a number is out of its range.
        """
        if not self.engines:
            raise UsageError("name the engines to compare, like --engine a.onnx --engine b.onnx")
        names = [engine.name for engine in self.engines]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two engines are called {name!r}: tell them apart, like --engine FILE,name={name}-2")
            if not name or name == INPUT:
                raise UsageError(f"no engine can be called {name!r}: name it, like --engine FILE,name=candidate")
        if self.rebuild < 1:
            raise UsageError(f"an engine has at least one build, the one that is given (got --rebuild {self.rebuild})")
        if self.max_gap is not None and not self.max_gap > 0:
            raise UsageError(f"a bound on the gap is a number of dB above 0 (got {self.max_gap:g})")
        for group in self.groups:
            if group not in GROUPS:
                raise UsageError(f"no group of sources is called {group!r}: known are {', '.join(GROUPS)}")
