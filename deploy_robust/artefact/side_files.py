"""Which files an engine reads beside the one that names it, found without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy_robust.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

RECORD_SUFFIX = ".build.json"
"""Ends the name of the build record beside a plan."""

_PLANS = (".plan", ".engine")
_CONTEXT = "ep_cache_context"
"""Attribute of an ``EPContext`` operator: a name of a file, unless the bytes are embedded."""


def side_files(path: Path) -> tuple[str, ...]:
    """Names of the further files that an engine cannot do without, sorted; each lies beside it, or below.

    That is external data of an ONNX graph (of weights, sparse ones, constants and subgraphs) and the contexts of its
    compiled nodes, the ``.bin`` of an OpenVINO file, and the build record of a plan. A timing or calibration cache is
    read by a builder and by no engine; libraries of custom operators are loaded by none.

    Raises:
        ArtefactError: A graph names a file outside its folder, or one that is not there.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return tuple(sorted(_of_graph(path)))
    if suffix == ".xml":
        beside = path.with_suffix(".bin")
    elif suffix in _PLANS:
        beside = path.with_name(path.name + RECORD_SUFFIX)
    else:
        return ()
    return (within(path.parent, beside.name, path).name,) if beside.exists() else ()


def within(folder: Path, name: str, by: Path) -> Path:
    """A file that another one names, inside that one's folder.

    Args:
        folder: Where it must lie.
        name: Its name there, with folders below it where it has any.
        by: Who names it, for the message.

    Raises:
        ArtefactError: It lies elsewhere: by an absolute name, by ``..``, or at the other end of a link.
    """
    found = folder / name
    outside = name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name
    if outside or not found.resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(
            f"{by} reads {name!r}, which lies outside its folder: copy that file beside it, and correct the name"
        )
    return found


def _of_graph(path: Path) -> set[str]:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # no graph: reading it says so in words
        return set()
    names = {name for tensor in _tensors(model) if (name := _location(tensor))}
    names |= set(_contexts(model))
    for name in names:
        found = within(path.parent, name, path)
        if not found.is_file():
            raise ArtefactError(f"{path} reads {name!r}, and it is not there: copy that file beside it, too")
    return names


def _location(tensor: onnx.TensorProto) -> str:
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return ""
    found = [entry.value for entry in tensor.external_data if entry.key == "location"]
    if not found or not found[-1]:
        raise ArtefactError(f"the tensor {tensor.name!r} is stored outside the graph, which does not say where")
    return str(found[-1])


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _of(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)
    for training in model.training_info:
        yield from _of(training.initialization)
        yield from _of(training.algorithm)


def _of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _of(graph)


def _contexts(model: onnx.ModelProto) -> Iterator[str]:
    """Files of nodes that were compiled for a provider of ONNX Runtime."""
    for node in model.graph.node:
        if node.op_type != "EPContext":
            continue
        attributes = {a.name: a for a in node.attribute}
        embedded = attributes["embed_mode"].i if "embed_mode" in attributes else 1
        if not embedded and _CONTEXT in attributes:
            yield attributes[_CONTEXT].s.decode(errors="replace")
