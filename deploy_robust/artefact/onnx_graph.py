"""What an ONNX file says of itself: its one image input and output, types, sizes, precision and metadata."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from deploy_robust.artefact.io_description import ElementType, IODescription, SizeRule
from deploy_robust.artefact.precision import shares_of
from deploy_robust.artefact.side_files import side_files
from deploy_robust.boundary import MalformedError, parse_json, validated
from deploy_robust.errors import ArtefactError, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

METADATA_PREFIX = "deploy_robust."
"""Every key that we store in ``metadata_props`` begins so; ``deploy_robust.io`` holds the I/O description as JSON."""

_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Port:
    """The image input or output of a graph.

    Attributes:
        name: Its name in the graph.
        dtype: Element type as ONNX names it, lower case: ``float``, ``float16``, ``uint8``.
        shape: Four dimensions; None where one is dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """A graph with one image input and one image output.

    Attributes:
        image: The input.
        answer: The output.
        precision: ``int8``, ``fp8``, ``fp16``, ``bf16`` or ``fp32``: what its work is judged as (see `Shares`).
        opset: Version of the default operator set.
        metadata: ``metadata_props`` of the file.
        work: How its work is divided among types, like ``int8 97 %, fp32 3 %``; empty where nobody counted.
    """

    image: Port
    answer: Port
    precision: str
    opset: int
    metadata: Mapping[str, str]
    work: str = ""

    def claimed(self, precision: str | None, by: str) -> None:
        """Refuses a claim that the graph does not bear out.

        Args:
            precision: What somebody says of it; None where nobody does.
            by: Who, for the message.

        Raises:
            ArtefactError: It is judged as something else.
        """
        if precision not in (None, self.precision):
            raise ArtefactError(
                f"{by} says {precision}, and the graph computes {self.work or self.precision}, which is judged as "
                f"{self.precision}: export it again, or take the claim away"
            )

    def described(self) -> IODescription:
        """The I/O description stored in the file, or else the best guess from types and shapes alone.

        A guess knows layout, type, fixed sizes and batch, but not range, colour order, mean and std: those stay at
        their defaults, but for uint8, whose range is 0 to 255.

        Raises:
            ArtefactError: The stored description is damaged, or the graph contradicts it.
        """
        stored = self.metadata.get(METADATA_PREFIX + "io")
        if stored is None:
            return self.complete(self._guess())
        where = f"metadata {METADATA_PREFIX}io"
        try:
            return self.complete(validated(IODescription, parse_json(stored)))
        except MalformedError as error:
            raise ArtefactError(f"{where} {error}: export the file again") from error

    def _guess(self) -> IODescription:
        dtype = _element_type(self.image)
        return IODescription(
            layout="NHWC" if self.image.shape[1] != _CHANNELS and self.image.shape[3] == _CHANNELS else "NCHW",
            dtype=dtype,
            range=(0.0, 255.0) if dtype == "uint8" else (0.0, 1.0),
            output_range=(0.0, 255.0) if self.answer.dtype == "uint8" and dtype != "uint8" else None,
        )

    def complete(self, io: IODescription) -> IODescription:
        """`io` with the fixed sizes and the fixed batch of the graph.

        Raises:
            ArtefactError: The graph contradicts `io`, or is no network from image to image.
        """
        height_axis, width_axis, channel_axis = (2, 3, 1) if io.layout == "NCHW" else (1, 2, 3)
        for port in (self.image, self.answer):
            if port.shape[channel_axis] not in (None, _CHANNELS):
                raise ArtefactError(
                    f"as {io.layout}, {port} has {port.shape[channel_axis]} channels and an RGB image has 3: "
                    "give the right --layout, or export a network from image to image"
                )
        dtype = _element_type(self.image)
        if dtype != io.dtype:
            raise ArtefactError(
                f"the graph takes {dtype} ({self.image}) and its I/O description says {io.dtype}: use --dtype {dtype}"
            )
        height, width = self.image.shape[height_axis], self.image.shape[width_axis]
        if (height is None) != (width is None):
            raise ArtefactError(
                f"as {io.layout}, {self.image} fixes one side only: give the right --layout, "
                "or export it with both sides fixed or both dynamic"
            )
        size = io.size
        if height is not None and width is not None:
            if size.fixed not in (None, (height, width)):
                raise ArtefactError(
                    f"{self.image} takes {height}x{width} only and its I/O description says {size}: leave --size out"
                )
            size = SizeRule(fixed=(height, width))
        batch = self.image.shape[0]
        if batch is not None and io.batch not in (None, batch):
            raise ArtefactError(
                f"{self.image} takes batches of {batch} only and its I/O description says {io.batch}: leave --batch out"
            )
        return replace(io, size=size, batch=io.batch if batch is None else batch)


def read_graph(path: Path) -> onnx.ModelProto:
    """Loads and checks an ONNX file, without its external data.

    Raises:
        ArtefactError: It is missing, truncated, or no ONNX file; or its external data lies outside its folder.
    """
    import onnx

    if not path.is_file():
        raise ArtefactError(f"no such file: {path}")
    damaged = "it may be truncated: copy or export it again"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, and what onnx makes of other bytes
        raise ArtefactError(f"{path} cannot be read as ONNX; {damaged}") from error
    if not model.graph.node:
        raise ArtefactError(f"{path} holds no graph; {damaged}")
    side_files(path)
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        raise ArtefactError(f"{path} is no valid ONNX graph ({first_line(error)[:160]}); {damaged}") from error
    return model


def inspect(path: Path) -> GraphFacts:
    """Reads what an ONNX file says of itself.

    Raises:
        ArtefactError: It is damaged, has another number of inputs or outputs than one, or one that is no image, or
            its metadata claim another precision than the graph computes in.
    """
    model = read_graph(path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer} | {
        tensor.values.name for tensor in graph.sparse_initializer
    }
    image = _only(path, "input", [_port(value) for value in graph.input if value.name not in weights])
    answer = _only(path, "output", [_port(value) for value in graph.output])
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    shares = shares_of(model, path.parent)
    facts = GraphFacts(
        image=image,
        answer=answer,
        precision=shares.judged,
        opset=opset,
        metadata={entry.key: entry.value for entry in model.metadata_props},
        work=str(shares),
    )
    facts.claimed(facts.metadata.get(METADATA_PREFIX + "precision"), f"metadata {METADATA_PREFIX}precision of {path}")
    return facts


def _port(value: onnx.ValueInfoProto) -> Port:
    import onnx

    tensor = value.type.tensor_type
    dims = tensor.shape.dim if tensor.HasField("shape") else ()
    # Some exporters write a dynamic dimension as 0 or -1.
    shape = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims)
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    return Port(value.name, names.get(tensor.elem_type, f"element type {tensor.elem_type}"), shape)


def _only(path: Path, role: str, ports: list[Port]) -> Port:
    if len(ports) != 1:
        found = "; ".join(map(str, ports)) or "none"
        raise ArtefactError(
            f"{path} must have one image {role} and has {len(ports)} ({found}): export the network's image {role} alone"
        )
    (port,) = ports
    if len(port.shape) != 4:
        raise ArtefactError(
            f"the {role} of {path} is no batch of images ({port}): four dimensions are needed, NCHW or NHWC"
        )
    return port


def _element_type(port: Port) -> ElementType:
    if port.dtype == "float":
        return "float32"
    for known in get_args(ElementType):
        if port.dtype == known:
            return known  # type: ignore[no-any-return]
    raise ArtefactError(
        f"{port} takes {port.dtype}; supported are {', '.join(get_args(ElementType))}: export it with one of these"
    )
