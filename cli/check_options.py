"""Options of every command that attacks an engine, and the request that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy_robust.cli.crafting_options import crafting_request
from deploy_robust.cli.engine_options import engine_options, engine_request
from deploy_robust.cli.io_options import io_overrides
from deploy_robust.cli.options import FILE, Finite, pairs_request, stacked
from deploy_robust.cli.running import BATCH, DEVICE, ROWS, SEED, THREADS, TIMEOUT
from deploy_robust.cli.set_options import refuse_contradictions, set_pairs
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy_robust.app.attack import AttackRequest
    from deploy_robust.app.check import CheckRequest

F = TypeVar("F", bound="Callable[..., Any]")


def network_options(*, required: bool) -> Callable[[F], F]:
    """Adds the options that name the engine and its source."""

    def add(command: F) -> F:
        return stacked(
            command,
            click.option(
                "--engine", required=required, type=FILE, help="The engine's file: .onnx, .xml, .pt2, or .safetensors."
            ),
            click.option(
                "--source",
                metavar="NAME|FILE|MODULE:FACTORY",
                help="The differentiable network behind the engine. [default: the weights beside the engine]",
            ),
            click.option("--source-checkpoint", type=FILE, help="Weights for the network of MODULE:FACTORY."),
            click.option("--model", help="Zoo name of the source, where it is an official .pth file."),
            click.option("--preset", help="Preset of the source, likewise."),
        )

    return add


def running_options(command: F) -> F:
    """Adds the options that say where and how it runs."""
    return stacked(
        command,
        SEED,
        DEVICE,
        engine_options,
        THREADS,
        BATCH,
        ROWS,
        TIMEOUT,
        click.option(
            "--max-minutes",
            type=Finite(min=0),
            metavar="M",
            help="Stop after so long; what is open then makes the verdict INCONCLUSIVE at best.",
        ),
    )


def check_request(
    *,
    engine: Path | None,
    source: str | None,
    source_checkpoint: Path | None,
    model: str | None,
    preset: str | None,
    out: Path,
    seed: int,
    device: str,
    threads: int | None,
    batch: int | None,
    rows: int | None,
    timeout: float,
    max_minutes: float | None,
    policy: str = "default",
    adversarial: Path | None = None,
    outputs: Path | None = None,
    downstream: tuple[str, ...] = (),
    **options: Any,
) -> CheckRequest:
    """The request that `network_options`, `running_options`, `pairs_options` and `io_options` make together.

    Raises:
        UsageError: Options contradict each other.
    """
    from deploy_robust.app.check import CheckRequest
    from deploy_robust.app.networks import EngineRequest, SourceRequest
    from deploy_robust.app.recorded import RecordedRequest

    refuse_contradictions(engine, adversarial, outputs)
    io = io_overrides(options)
    crafting = crafting_request(options)
    how, kind = engine_request(options, device=device, threads=threads)
    under_test: EngineRequest | RecordedRequest
    if outputs is not None:
        under_test = RecordedRequest(outputs, engine, how.precision, io)
    else:
        under_test = EngineRequest(engine, how, io, kind)  # type: ignore[arg-type]  # refused above
    return CheckRequest(
        engine=under_test,
        source=SourceRequest(source, source_checkpoint, model, preset, device, crafting),
        pairs=pairs_request(seed=seed, **options) if adversarial is None else set_pairs(adversarial),
        policy=policy,
        out=out,
        seed=seed,
        threads=threads,
        pairs_per_batch=batch,
        rows=rows,
        timeout=timeout,
        max_minutes=max_minutes,
        downstream=downstream,
    )


def attack_request(
    *,
    engine: Path | None,
    source: str | None,
    source_checkpoint: Path | None,
    model: str | None,
    preset: str | None,
    out: Path,
    run: Path | None,
    policy: str,
    attacks: tuple[str, ...],
    objectives: tuple[str, ...],
    masks: tuple[str, ...],
    epsilon: tuple[str, ...],
    seed: int,
    device: str,
    threads: int | None,
    batch: int | None,
    rows: int | None,
    timeout: float,
    max_minutes: float | None,
    **options: Any,
) -> AttackRequest:
    """The request of `attack`.

    Raises:
        UsageError: Neither engine nor source is named, or an epsilon is fractional.
    """
    from deploy_robust.app.attack import AttackRequest
    from deploy_robust.app.networks import EngineRequest, SourceRequest
    from deploy_robust.attacks.threat import parse_epsilon, whole_levels

    if engine is None and source is None:
        raise UsageError("name what attacks are crafted on: --source (a zoo name, weights, a graph), --engine, or both")
    io = io_overrides(options)
    crafting = crafting_request(options)
    how, kind = engine_request(options, device=device, threads=threads)
    levels = dict.fromkeys(float(whole_levels(parse_epsilon(text))) for text in epsilon)
    return AttackRequest(
        out=out,
        run=run,
        engine=None if engine is None else EngineRequest(engine, how, io, kind),
        source=SourceRequest(source, source_checkpoint, model, preset, device, crafting),
        pairs=pairs_request(seed=seed, **options),
        policy=policy,
        attacks=tuple(dict.fromkeys(attacks)),
        objectives=objectives,
        masks=masks,
        levels=tuple(sorted(levels)),
        seed=seed,
        threads=threads,
        pairs_per_batch=batch,
        rows=rows,
        timeout=timeout,
        max_minutes=max_minutes,
    )
