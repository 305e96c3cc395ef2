"""The first and the last convolution of an image-to-image network: the sensitive ones, which stay in float.

The first sees the image itself, whose grey levels are the signal; the last makes the answer, and nothing after it can
average its error away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.errors import ExportError

if TYPE_CHECKING:
    import onnx

    from deploy_robust.artefact.exporter import ExportSettings


class NothingLeftError(ExportError):
    """Every layer that could be quantised is to stay in float."""

    def __init__(self, graph: str) -> None:
        """`graph` is the name of its file."""
        self.graph = graph
        super().__init__(
            f"{graph} has no convolution left to quantise, since the first and the last one stay in float: "
            "give --quantise-ends"
        )


def left_in_float(model: onnx.ModelProto, settings: ExportSettings) -> list[str]:
    """Names of the nodes that no profile quantises: the ends, unless the user wants them quantised, too."""
    return [] if settings.quantise_ends else end_convolutions(model)


def end_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes of the first and the last convolutions.

    First are those that no other convolution leads to, last those that lead to no other. A recurrent network runs one
    layer many times: all nodes that share such a layer's weights belong to it.
    """
    nodes = list(model.graph.node)
    convolutions = {i for i, node in enumerate(nodes) if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")}
    makers = {name: i for i, node in enumerate(nodes) for name in node.output}
    behind: list[bool] = []  # whether a convolution lies before the node
    leads: set[int] = set()  # convolutions that lead to another
    sources: list[frozenset[int]] = []  # nearest convolutions before the node's output
    for i, node in enumerate(nodes):
        before = [makers[name] for name in node.input if name in makers]
        nearest = frozenset().union(*(sources[j] for j in before)) if before else frozenset()
        behind.append(bool(nearest))
        if i in convolutions:
            leads |= nearest
            nearest = frozenset((i,))
        sources.append(nearest)
    ends = {i for i in convolutions if not behind[i] or i not in leads}
    weights = {nodes[i].input[1] for i in ends}
    return [nodes[i].name for i in sorted(convolutions) if nodes[i].input[1] in weights]
