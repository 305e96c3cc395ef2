"""Options that say how an engine is loaded; every command that opens an engine has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from deploy_robust.engine import EngineOptions

F = TypeVar("F", bound="Callable[..., Any]")

_OPTIONS = (
    click.option(
        "--runtime",
        "engine_kind",
        metavar="KIND",
        help="What opens the engine, where its suffix does not say it: openvino, literal, ... (`doctor` lists them).",
    ),
    click.option(
        "--provider",
        "engine_provider",
        metavar="NAME[,NAME]",
        help="Provider of ONNX Runtime: cpu, cuda, tensorrt; several allow each other, and no other.",
    ),
    click.option(
        "--arithmetic",
        "engine_arithmetic",
        type=click.Choice(["literal", "fused"]),
        help="Run the graph's own operators one by one, or let the runtime fuse them. [default: as it does by itself]",
    ),
    click.option(
        "--compute",
        "engine_compute",
        type=click.Choice(["f32", "bf16", "f16"]),
        help="What OpenVINO computes floating point in. [default: what the graph says]",
    ),
    click.option(
        "--vouch",
        "engine_vouched",
        metavar="SHA256",
        help="Load an engine with native code that has no manifest, because its hash is this one.",
    ),
    click.option(
        "--precision",
        "engine_precision",
        type=click.Choice(["fp32", "fp16", "bf16", "int8", "fp8"]),
        help="What the engine computes in, where neither its file nor a manifest says it (a plan, recorded outputs).",
    ),
)


def engine_options(command: F) -> F:
    """Adds the options; they arrive as keyword arguments ``engine_...`` that `engine_request` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def engine_request(
    options: MutableMapping[str, Any], *, device: str, threads: int | None
) -> tuple[EngineOptions, str | None]:
    """How to load the engine, and the name of its kind where the user gave one.

    Args:
        options: Keyword arguments of a command under `engine_options`; those that belong here are taken out.
        device: Torch device string.
        threads: Threads on the CPU; None leaves them to the runtime.
    """
    from deploy_robust.engine import EngineOptions

    kind: str | None = options.pop("engine_kind")
    given = {
        name: options.pop(f"engine_{name}") for name in ("provider", "arithmetic", "compute", "vouched", "precision")
    }
    return EngineOptions(device=device, threads=threads, **given), kind
