"""A plan brought to life: deserialised with host code off, and asked what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy_robust.artefact.onnx_graph import Port
from deploy_robust.errors import ArtefactError
from deploy_robust.tensorrt.calls import LOG, TensorRTFailure, logger_of, must
from deploy_robust.tensorrt.dtypes import ONNX, name_of, torch_dtype
from deploy_robust.tensorrt.loading import created
from deploy_robust.tensorrt.profiles import Profile

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A deserialised plan with one image input and one image output.

    Attributes:
        trt: The module it belongs to.
        runtime: Must live as long as the engine.
        cuda_engine: ``ICudaEngine``.
        image: The input; dimensions that its only profile leaves open are None.
        answer: The output, likewise.
        image_dtype: Type of the input in torch.
        answer_dtype: Type of the output in torch.
        profiles: What shapes it takes; never empty.
    """

    trt: Any
    runtime: Any
    cuda_engine: Any
    image: Port
    answer: Port
    image_dtype: torch.dtype
    answer_dtype: torch.dtype
    profiles: tuple[Profile, ...]


def deserialise(trt: Any, content: bytes | memoryview) -> LivePlan:
    """Loads a plan for which somebody answers.

    A plan may carry host code for a lean runtime; it is never allowed to run here.

    Raises:
        ArtefactError: TensorRT refuses the plan, or it is none from one image to one image.
        EnvironmentProblem: TensorRT gives no runtime.
    """
    runtime = created("Runtime", trt.Runtime, logger_of(trt))
    runtime.engine_host_code_allowed = False
    since = LOG.mark()
    try:
        cuda_engine = must(
            runtime.deserialize_cuda_engine(content),
            "deserialize_cuda_engine",
            since,
            f"a plan is good for one TensorRT (here {trt.__version__}) on one kind of GPU; build it here again",
        )
    except TensorRTFailure as error:
        raise ArtefactError(str(error)) from error
    image_name = _only(trt, cuda_engine, "INPUT")
    answer_name = _only(trt, cuda_engine, "OUTPUT")
    profiles = _profiles(cuda_engine, image_name)
    return LivePlan(
        trt,
        runtime,
        cuda_engine,
        _port(trt, cuda_engine, image_name, profiles),
        _port(trt, cuda_engine, answer_name, profiles),
        torch_dtype(cuda_engine.get_tensor_dtype(image_name)),
        torch_dtype(cuda_engine.get_tensor_dtype(answer_name)),
        profiles,
    )


def _only(trt: Any, cuda_engine: Any, mode: str) -> str:
    """Name of the one input or output.

    Raises:
        ArtefactError: There are more, or none.
    """
    wanted = trt.TensorIOMode.INPUT if mode == "INPUT" else trt.TensorIOMode.OUTPUT
    names = [cuda_engine.get_tensor_name(index) for index in range(cuda_engine.num_io_tensors)]
    found = [str(name) for name in names if cuda_engine.get_tensor_mode(name) == wanted]
    if len(found) != 1:
        raise ArtefactError(
            f"the plan must have one {mode.lower()} and has {len(found)} ({', '.join(found) or 'none'}): "
            "build it from a network from image to image"
        )
    return found[0]


def _port(trt: Any, cuda_engine: Any, name: str, profiles: tuple[Profile, ...]) -> Port:
    """What the plan says of one tensor.

    Raises:
        ArtefactError: It is no batch of images, or lies in memory in another way than torch's.
    """
    shape = tuple(int(side) for side in cuda_engine.get_tensor_shape(name))
    if len(shape) != 4:
        raise ArtefactError(f"{name} of the plan is no batch of images (shape {shape}): four dimensions are needed")
    if cuda_engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
        raise ArtefactError(
            f"{name} of the plan is not linear in memory ({cuda_engine.get_tensor_format_desc(name)}): "
            "build it without special I/O formats"
        )
    if cuda_engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
        raise ArtefactError(
            f"{name} of the plan is not in the GPU's memory: build it from a network from image to image"
        )
    only = list(profiles[0].dims()) if len(profiles) == 1 else [None] * 4
    if None in only[1:]:  # a size that is fixed on one side alone is for `nearest` to refuse
        only = [only[0], None, None, None]
    sides = tuple(side if side >= 0 else fixed for side, fixed in zip(shape, only, strict=True))
    dtype = name_of(cuda_engine.get_tensor_dtype(name))
    return Port(name, ONNX.get(dtype, dtype.lower()), sides)


def _profiles(cuda_engine: Any, name: str) -> tuple[Profile, ...]:
    shape = tuple(int(side) for side in cuda_engine.get_tensor_shape(name))
    if all(side >= 0 for side in shape):
        return (Profile(shape, shape, shape),)
    found = []
    for index in range(cuda_engine.num_optimization_profiles):
        least, best, most = (
            tuple(int(side) for side in dims) for dims in cuda_engine.get_tensor_profile_shape(name, index)
        )
        found.append(Profile(least, best, most))
    return tuple(found)
