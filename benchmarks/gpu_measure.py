"""Measuring on a device: time, copies as the driver saw them, and what the card itself can do at most."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

ROUNDS = 7
SECONDS = 0.25


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(step: Callable[[], object], device: torch.device, *, rounds: int = ROUNDS, least: int = 3) -> float:
    """Seconds of one step: median over rounds of many steps each, enqueued without a wait between them."""
    for _ in range(least):
        step()
    synchronise(device)
    started = time.perf_counter()
    step()
    synchronise(device)
    count = max(least, min(1000, int(SECONDS / max(1e-6, time.perf_counter() - started))))
    found = []
    for _ in range(rounds):
        if device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(count):
                step()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) / 1000 / count)
        else:
            started = time.perf_counter()
            for _ in range(count):
                step()
            found.append((time.perf_counter() - started) / count)
    return statistics.median(found)


def copies(step: Callable[[], object], device: torch.device, count: int = 10) -> dict[str, float] | None:
    """Copies for each step by direction, as CUPTI saw them; None where it saw no kernel either and so proves nothing.

    Every copy of the process counts, whoever made it: torch, ONNX Runtime or TensorRT.
    """
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    step()
    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(count):
            step()
        synchronise(device)
    names = [event.name for event in seen.events()]
    if not any(not name.startswith(("Memcpy", "Memset", "cuda")) for name in names):
        return None
    kinds = {"to host": "Memcpy DtoH", "to device": "Memcpy HtoD", "on device": "Memcpy DtoD"}
    return {word: sum(name.startswith(kind) for name in names) / count for word, kind in kinds.items()}


def captured(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """The step as a CUDA graph: its kernels are recorded once and launched together; the answer lies where it lay.

    Raises:
        RuntimeError: The step does something that cannot be recorded, a wait for instance.
    """
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):  # lazy initialisation must not happen while recording
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = step()

    def replay() -> Tensor:
        graph.replay()
        return answer

    return replay


def limits(device: torch.device, *, quick: bool = False) -> dict[str, float]:
    """What the card itself does at most: bytes/s of copies, operations/s of matrix products by type."""
    size = 2**24 if quick else 2**30
    found: dict[str, float] = {}
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # Read once and written once.
    found["copy on device, bytes/s"] = 2 * size / seconds(lambda a=source, b=target: b.copy_(a), device)
    if device.type == "cuda":
        host = torch.empty(size // 4, dtype=torch.uint8, pin_memory=True)
        part = target[: size // 4]
        found["copy to device, bytes/s"] = part.numel() / seconds(lambda: part.copy_(host, non_blocking=True), device)
        found["copy to host, bytes/s"] = part.numel() / seconds(lambda: host.copy_(part, non_blocking=True), device)
    del source, target
    side = 512 if quick else 8192
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for name, dtype, tf32 in (
            ("fp32", torch.float32, False),
            ("tf32", torch.float32, True),
            ("fp16", torch.float16, False),
            ("bf16", torch.bfloat16, False),
        ):
            if tf32 and device.type != "cuda":
                continue
            torch.backends.cuda.matmul.allow_tf32 = tf32
            a = torch.randn(side, side, device=device).to(dtype)
            out = torch.empty_like(a)
            found[f"matmul {name}, operations/s"] = (
                2 * side**3 / seconds(lambda a=a, out=out: torch.matmul(a, a, out=out), device)
            )
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return found


def operations(network: nn.Module, x: Tensor) -> int:
    """Multiplications and additions of one forward pass, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    return int(counter.get_total_flops())


def least_seconds(work: int, moved: int, found: dict[str, float], kind: str) -> float:
    """What the card would need at the least: for the products at its matmul rate, or for input, output and weights."""
    return max(work / found[f"matmul {kind}, operations/s"], moved / found["copy on device, bytes/s"])
