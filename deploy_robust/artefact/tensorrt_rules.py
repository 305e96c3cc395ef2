"""What TensorRT would refuse in a typed ONNX graph, found in the graph itself before any builder sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_HALF_QUANTISER_OPSET = 19
_OUTPUT_CHANNELS = 0
_WEIGHTS = 1
"""Position of the weights among the inputs of a convolution or a matrix product."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason for which TensorRT would not build, or not compute what the graph says.

    Attributes:
        rule: Short name of the rule.
        node: Name of the node.
        reason: What is wrong and what would be right.
    """

    rule: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"node {self.node!r}: {self.reason}"


def findings(model: onnx.ModelProto) -> list[Finding]:
    """Everything in a graph that TensorRT 10.13 to 11.x would refuse, in the order of the graph.

    The rules for explicit quantisation: codes of signed int8 or of E4M3, one type for both inputs of a layer,
    zero-points of 0, scales that are constants, activations per tensor, weights of convolutions per output channel, no
    32-bit codes (a quantised bias), floats that saturate, no float16 quantisers before operator set 19.
    Node functions and subgraphs are refused where they hold quantisers, since nothing here looks into them.
    """
    return list(_findings(model))


def _findings(model: onnx.ModelProto) -> Iterator[Finding]:
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for holder in _inner(model):
        if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in holder[1]):
            yield Finding("nested", holder[0], "quantisers stand inside a subgraph or function: inline it")
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        name = node.name or node.output[0]
        attributes = {a.name: a for a in node.attribute}
        scale = constants.get(node.input[1])
        if scale is None:
            yield Finding("dynamic-scale", name, "its scale is computed: TensorRT takes constants only")
        elif scale.data_type == TensorProto.FLOAT16 and opset < _HALF_QUANTISER_OPSET:
            yield Finding(
                "half-quantiser", name, f"float16 scales need operator set {_HALF_QUANTISER_OPSET} (this is {opset})"
            )
        zero = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        computed = zero is None and len(node.input) > 2 and bool(node.input[2])
        if computed:
            yield Finding("zero-point", name, "its zero-point is computed: TensorRT takes the constant 0 only")
        codes = _codes(node, zero, constants, makers, attributes)
        if codes == TensorProto.INT32:
            yield Finding("bias", name, "it dequantises 32-bit codes (a quantised bias): keep biases in float")
        elif codes in (TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.UINT4):
            yield Finding(
                "codes", name, f"its codes are {TensorProto.DataType.Name(codes).lower()}: TensorRT takes signed int8"
            )
        elif codes in (TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ, TensorProto.FLOAT8E4M3FNUZ):
            yield Finding(
                "codes", name, f"its codes are {TensorProto.DataType.Name(codes).lower()}: TensorRT takes float8e4m3fn"
            )
        if "saturate" in attributes and not attributes["saturate"].i:
            yield Finding("saturate", name, "it does not saturate: TensorRT always does, leave saturate at 1")
        if zero is not None and numpy_helper.to_array(zero).astype("float64").any():
            yield Finding("zero-point", name, "its zero-point is not 0: quantise symmetrically")
        if scale is not None and scale.dims and _count(scale) > 1:
            yield from _per_channel(node, name, attributes, constants, makers, users)
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        above = [makers.get(name) for name in node.input[: _WEIGHTS + 1]]
        kinds = {
            _codes_of(maker, constants, makers) for maker in above if maker and maker.op_type == "DequantizeLinear"
        }
        if {TensorProto.INT8, TensorProto.FLOAT8E4M3FN} <= kinds:
            yield Finding("mixed", node.name or node.output[0], "its inputs are of int8 and of fp8: use one for both")


def _per_channel(
    node: onnx.NodeProto,
    name: str,
    attributes: dict[str, onnx.AttributeProto],
    constants: dict[str, onnx.TensorProto],
    makers: dict[str, onnx.NodeProto],
    users: dict[str, list[onnx.NodeProto]],
) -> Iterator[Finding]:
    """A scale with several values belongs to weights, on the axis of output channels."""
    source = makers.get(node.input[0])
    weights = node.input[0] in constants or (source is not None and source.input and source.input[0] in constants)
    if not weights:
        yield Finding("per-channel", name, "it quantises activations per channel: TensorRT takes one scale for them")
        return
    axis = attributes["axis"].i if "axis" in attributes else 1
    for user in users.get(node.output[0], ()):
        if user.op_type == "Conv" and axis != _OUTPUT_CHANNELS:
            yield Finding("axis", name, f"weights of Conv {user.name!r} are scaled along axis {axis}: use axis 0")
        if user.op_type == "ConvTranspose":
            yield Finding(
                "axis", name, f"weights of ConvTranspose {user.name!r} are scaled per channel: keep it in float"
            )


def _codes(
    node: onnx.NodeProto,
    zero: onnx.TensorProto | None,
    constants: dict[str, onnx.TensorProto],
    makers: dict[str, onnx.NodeProto],
    attributes: dict[str, onnx.AttributeProto],
) -> int:
    """Element type of the codes; uint8 is what ONNX takes where nothing says."""
    from onnx import TensorProto

    if zero is not None:
        return int(zero.data_type)
    if node.op_type == "DequantizeLinear":
        if node.input[0] in constants:
            return int(constants[node.input[0]].data_type)
        maker = makers.get(node.input[0])
        if maker is not None and maker.op_type == "QuantizeLinear":
            return _codes_of(maker, constants, makers)
    given = attributes.get("output_dtype")
    if node.op_type == "QuantizeLinear" and given is not None and given.i:
        return int(given.i)
    return int(TensorProto.UINT8)


def _codes_of(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], makers: dict[str, onnx.NodeProto]) -> int:
    """The same for a quantiser of which nothing was looked up yet."""
    zero = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return _codes(node, zero, constants, makers, {a.name: a for a in node.attribute})


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for side in tensor.dims:
        count *= side
    return count


def _inner(model: onnx.ModelProto) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Node lists that the main loop does not see: of functions, and of If, Loop and Scan."""
    for function in model.functions:
        yield function.name, list(function.node)
    waiting = list(model.graph.node)
    while waiting:
        node = waiting.pop()
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield node.name or node.op_type, list(attribute.g.node)
                waiting.extend(attribute.g.node)
