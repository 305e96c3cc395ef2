"""Slots: a stream with static buffers and captured graphs, on which one batch after another runs without waiting."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from deploy_robust.errors import EngineDefect, EnvironmentProblem
from deploy_robust.tensorrt.calls import LOG, TensorRTFailure, must, ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from deploy_robust.tensorrt.device import Device
    from deploy_robust.tensorrt.plan import LivePlan

SHAPES = 4
"""Shapes that a slot keeps ready; the one that was used longest ago makes room."""

_ALIGNMENT = 256


class NotCapturable(EnvironmentProblem):
    """A plan that runs, and whose launch does not fit into a CUDA graph."""


class Program:
    """One context for one shape: a captured graph freezes shapes, addresses and context together.

    Args:
        plan: The plan.
        profile: Index of the optimisation profile.
        shape: Of the input.
        slot: Whose stream and scratch memory it uses.
        capture: Whether to capture a graph; else every launch queues the plan anew.

    Raises:
        TensorRTFailure: TensorRT refused a step.
        EngineDefect: The answer's shape stays unknown until the plan has run.
        NotCapturable: It runs, and no graph can be made of it.
    """

    def __init__(self, plan: LivePlan, profile: int, shape: tuple[int, ...], slot: Slot, *, capture: bool) -> None:
        trt, device, stream = plan.trt, slot.device, slot.stream
        since = LOG.mark()
        context: Any = must(
            plan.cuda_engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED),
            "create_execution_context",
            since,
        )
        self._context, self._handle = context, device.handle(stream)
        # Programs of a slot never overlap, because they share its stream; so they share its scratch memory too.
        context.set_device_memory(slot.scratch.data_ptr(), slot.scratch.numel())
        if context.active_optimization_profile != profile:
            ok(context.set_optimization_profile_async(profile, self._handle), "set_optimization_profile_async", since)
        ok(context.set_input_shape(plan.image.name, shape), "set_input_shape", since)
        if missing := context.infer_shapes():
            raise EngineDefect("shape", f"the plan cannot tell its answer's shape for {shape} ({', '.join(missing)})")
        answer = tuple(int(side) for side in context.get_tensor_shape(plan.answer.name))
        if min(answer) < 0:
            raise EngineDefect("shape", f"the plan's answer to {shape} has no fixed shape ({answer})")
        where = device.torch_device
        # The binding keeps numbers only: these two must live as long as the context.
        self.image = torch.zeros(shape, dtype=plan.image_dtype, device=where)
        self.answer = torch.empty(answer, dtype=plan.answer_dtype, device=where)
        for name, tensor in ((plan.image.name, self.image), (plan.answer.name, self.answer)):
            ok(context.set_tensor_address(name, tensor.data_ptr()), "set_tensor_address", since)
        device.enter(stream)
        # What TensorRT sets up on first use must not happen while a graph is captured.
        for _ in range(2):
            self._enqueue()
        device.settle(stream)
        self.launch: Callable[[], None] = self._enqueue
        if capture:
            try:
                self.launch = device.captured(stream, self._enqueue)
            except (RuntimeError, TensorRTFailure) as error:
                raise NotCapturable(
                    f"the plan runs and its launch on {shape} cannot be captured in a CUDA graph ({error})"
                ) from error

    def _enqueue(self) -> None:
        since = LOG.mark()
        ok(self._context.execute_async_v3(self._handle), "execute_async_v3", since)


class Slot:
    """A stream, its scratch memory, and the programs of the shapes that it has seen.

    Args:
        plan: The plan.
        device: The GPU.
    """

    def __init__(self, plan: LivePlan, device: Device) -> None:
        self._plan, self.device = plan, device
        self.stream = device.new_stream()
        size = max(int(plan.cuda_engine.device_memory_size_v2), _ALIGNMENT)
        self.scratch = torch.empty(size, dtype=torch.uint8, device=device.torch_device)
        self._programs: OrderedDict[tuple[int, ...], Program] = OrderedDict()

    def program(self, profile: int, shape: tuple[int, ...], *, capture: bool) -> Program:
        """The program of a shape, made when it is first seen.

        Raises:
            TensorRTFailure: TensorRT refused a step.
            EngineDefect: The answer's shape stays unknown.
        """
        if shape in self._programs:
            self._programs.move_to_end(shape)
            return self._programs[shape]
        if len(self._programs) >= SHAPES:
            self.device.settle(self.stream)  # the oldest may still be running
            self._programs.popitem(last=False)
        with self.device.active():
            made = self._programs[shape] = Program(self._plan, profile, shape, self, capture=capture)
        return made

    def run(self, program: Program, batch: Tensor, out: Tensor) -> None:
        """Queues a batch; `Device.leave` makes the caller's stream wait for it.

        Raises:
            EngineDefect: TensorRT refused to queue it.
        """
        device, stream = self.device, self.stream
        device.enter(stream)
        device.copy(program.image, batch, stream)
        try:
            program.launch()
        except TensorRTFailure as error:
            raise EngineDefect("crash", f"{error} on an input of {tuple(batch.shape)}") from error
        device.copy(out, program.answer, stream)
        device.hold(batch, stream)
        device.hold(out, stream)

    def close(self) -> None:
        """Waits for the stream and lets go of everything on it."""
        self.device.settle(self.stream)
        self._programs.clear()
