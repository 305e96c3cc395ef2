"""What an engine is known by: every file that it reads, and none that lies elsewhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from deploy_robust.app.networks import EngineRequest, SourceRequest, open_engine, open_source
from deploy_robust.artefact.hashing import identity_of, require_unchanged, sha256_of
from deploy_robust.artefact.io_description import IODescription
from deploy_robust.artefact.manifest import FileRecord, Manifest, manifest_path, read_manifest
from deploy_robust.artefact.onnx_graph import inspect
from deploy_robust.artefact.side_files import side_files
from deploy_robust.engine import EngineOptions
from deploy_robust.errors import ArtefactError, CheckpointError, UsageError

SHAPE = ("n", 3, "h", "w")
DATA = "net.onnx.data"


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array, np.float32), name)


def stored_outside(model, location):
    """All tensors with a name of a file, and their bytes in it where that can be written."""
    content = b""
    for each in [*model.graph.initializer]:
        raw = numpy_helper.to_array(each).tobytes()
        each.ClearField("raw_data")
        each.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", len(content)), ("length", len(raw))):
            each.external_data.add(key=key, value=str(value))
        content += raw
    return content


def network(folder, location=DATA, scale=1.0, name="net.onnx"):
    """One convolution whose weights lie in a second file."""
    weights = scale * np.random.default_rng(0).normal(size=(3, 3, 3, 3))
    x, y = (helper.make_tensor_value_info(port, TensorProto.FLOAT, SHAPE) for port in "xy")
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    graph = helper.make_graph(nodes, "g", [x], [y], [tensor("w", weights)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = stored_outside(model, location)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(model.SerializeToString())
    if not location.startswith("/") and ".." not in location:
        (folder / location).parent.mkdir(exist_ok=True)
        (folder / location).write_bytes(content)
    return folder / name


def manifest_of(path, **changes):
    made = Manifest(FileRecord.of(path), "fp32", "fp32", {}, IODescription())
    return replace(made, **changes)


def test_one_file_is_known_by_its_own_hash(tmp_path):
    path = tmp_path / "net.pt2"
    path.write_bytes(b"abc")
    assert identity_of(path) == sha256_of(path) == hashlib.sha256(b"abc").hexdigest()
    assert identity_of(path, b"other bytes") == hashlib.sha256(b"other bytes").hexdigest()


def test_several_files_are_known_by_their_list_as_sha256sum_writes_it(tmp_path):
    path = network(tmp_path)
    text = f"{sha256_of(path)}  \n{sha256_of(tmp_path / DATA)}  {DATA}\n"
    assert identity_of(path) == hashlib.sha256(text.encode()).hexdigest()
    assert identity_of(path, path.read_bytes()) == identity_of(path)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3 * 3 * 9 * 4 - 1), st.integers(1, 255))
def test_any_changed_byte_of_any_file_is_another_engine(tmp_path, where, flip):
    path = network(tmp_path)
    before, content = identity_of(path), bytearray((tmp_path / DATA).read_bytes())
    content[where] ^= flip
    (tmp_path / DATA).write_bytes(content)
    assert identity_of(path) != before


@pytest.mark.parametrize(("name", "beside"), [("net.xml", "net.bin"), ("net.plan", "net.plan.build.json")])
def test_weights_and_build_record_belong_to_their_engine(tmp_path, name, beside):
    (tmp_path / name).write_bytes(b"engine")
    alone = identity_of(tmp_path / name)
    (tmp_path / beside).write_bytes(b"one")
    one = identity_of(tmp_path / name)
    (tmp_path / beside).write_bytes(b"two")
    assert len({alone, one, identity_of(tmp_path / name)}) == 3
    (tmp_path / name).rename(tmp_path / name.replace("net", "other"))
    (tmp_path / beside).rename(tmp_path / beside.replace("net", "other"))
    (tmp_path / beside.replace("net", "other")).write_bytes(b"one")
    assert identity_of(tmp_path / name.replace("net", "other")) == one  # a renamed engine is the same one


def outside(name, location):
    """A tensor that lies in a file of its own."""
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    found.external_data.add(key="location", value=location)
    return found


def test_data_of_subgraphs_constants_functions_and_sparse_tensors_belongs_to_it(tmp_path):
    value = helper.make_tensor_value_info
    inner = helper.make_graph([], "b", [], [value("i", TensorProto.FLOAT, [1])], [outside("i", "inner.data")])
    constant = helper.make_node("Constant", [], ["c"])
    constant.attribute.append(helper.make_attribute("value", outside("c", "constant.data")))
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([constant, branch], "g", [value("x", 1, [1])], [value("y", 1, [1])])
    sparse = graph.sparse_initializer.add(dims=[1])
    sparse.values.CopyFrom(outside("s", "values.data"))
    sparse.indices.CopyFrom(outside("", "indices.data"))
    context = helper.make_node("EPContext", [], ["e"], embed_mode=0, ep_cache_context="context.bin")
    graph.node.append(context)
    body = helper.make_function("d", "F", [], ["o"], [helper.make_node("Constant", [], ["o"])], [])
    body.node[0].attribute.append(helper.make_attribute("value", outside("o", "function.data")))
    model = helper.make_model(graph, functions=[body])
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    names = sorted(["inner.data", "constant.data", "values.data", "indices.data", "function.data", "context.bin"])
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    assert side_files(tmp_path / "net.onnx") == tuple(names)


@pytest.mark.parametrize("location", ["../net.data", "below/../../net.data", "/dev/null"])
def test_data_outside_the_folder_is_refused(tmp_path, location):
    (tmp_path / "net.data").write_bytes(bytes(324))
    path = network(tmp_path / "engine", location)
    for read in (identity_of, inspect, lambda path: open_engine(EngineRequest(path, EngineOptions()))):
        with pytest.raises(ArtefactError, match="lies outside its folder") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_so_is_a_link_that_leads_out_of_it(tmp_path):
    path = network(tmp_path / "engine")
    data = path.parent / DATA
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtefactError, match="lies outside its folder"):
        identity_of(path)


def test_a_folder_below_is_no_other_place(tmp_path):
    path = network(tmp_path, "weights/net.data")
    assert side_files(path) == ("weights/net.data",)
    assert open_engine(EngineRequest(path, EngineOptions())).facts["sha256"] == identity_of(path)


def test_data_that_is_not_there_is_named(tmp_path):
    path = network(tmp_path)
    (tmp_path / DATA).unlink()
    with pytest.raises(ArtefactError, match=rf"reads '{DATA}', and it is not there"):
        identity_of(path)


def test_swapped_weights_are_another_engine_to_its_manifest_and_to_a_run(tmp_path):
    path = network(tmp_path)
    manifest_of(path).write(tmp_path)
    first = open_engine(EngineRequest(path, EngineOptions())).facts
    assert first["sha256"] == identity_of(path) == first["manifest"]["artefact"]["sha256"]
    network(tmp_path, scale=0.9)
    with pytest.raises(ArtefactError, match="belongs to other bytes"):
        read_manifest(path)
    manifest_path(path).unlink()
    second = open_engine(EngineRequest(path, EngineOptions())).facts
    assert second["sha256"] != first["sha256"]  # so a run is not resumed, a case not replayed, and compare sees two


def test_a_manifest_that_names_each_file_by_its_own_hash_still_holds(tmp_path):
    """As version 0.1 wrote them for OpenVINO."""
    path = tmp_path / "net.xml"
    path.write_bytes(b"graph")
    path.with_suffix(".bin").write_bytes(b"weights")
    companions = (FileRecord("net.bin", sha256_of(path.with_suffix(".bin"))),)
    manifest_of(path, artefact=FileRecord("net.xml", sha256_of(path)), companions=companions).write(tmp_path)
    assert read_manifest(path) is not None
    path.with_suffix(".bin").write_bytes(b"other weights")
    with pytest.raises(ArtefactError, match="belongs to other bytes"):
        read_manifest(path)


def test_a_manifest_of_another_engine_is_refused(tmp_path):
    one, other = network(tmp_path / "a"), network(tmp_path / "b", scale=0.5)
    manifest_of(other).write(one.parent)
    with pytest.raises(ArtefactError, match="belongs to other bytes"):
        open_engine(EngineRequest(one, EngineOptions()))


def test_a_manifest_that_claims_another_precision_is_refused(tmp_path):
    path = network(tmp_path)
    manifest_of(path, precision="int8").write(tmp_path)
    with pytest.raises(ArtefactError, match="says int8, and the graph computes fp32 100 %"):
        open_engine(EngineRequest(path, EngineOptions()))


def test_so_is_a_user_who_states_another_one(tmp_path):
    path = network(tmp_path)
    with pytest.raises(UsageError, match=r"--precision int8 contradicts .* computes in fp32"):
        open_engine(EngineRequest(path, EngineOptions(precision="int8")))
    assert open_engine(EngineRequest(path, EngineOptions(precision="fp32"))).facts["sha256"] == identity_of(path)


def test_a_file_that_changes_while_it_is_opened_is_refused(tmp_path, monkeypatch):
    path = network(tmp_path)
    before = identity_of(path)
    require_unchanged(path, before)
    from deploy_robust.engines.onnxruntime import OnnxRuntimeKind

    opened = OnnxRuntimeKind.open

    def meanwhile(self, path, options):
        found = opened(self, path, options)
        network(tmp_path, scale=0.9)
        return found

    monkeypatch.setattr(OnnxRuntimeKind, "open", meanwhile)
    with pytest.raises(ArtefactError, match="has changed while it was opened"):
        open_engine(EngineRequest(path, EngineOptions()))
    assert identity_of(path) != before


@pytest.mark.parametrize("name", ["../net.safetensors", "/etc/hostname", "below/net.safetensors", ""])
def test_a_source_of_a_manifest_is_a_plain_name(tmp_path, name):
    path = network(tmp_path)
    data = manifest_of(path).to_dict()
    data["source"] = {"file": name, "sha256": "0" * 64}
    manifest_path(path).write_text(json.dumps(data))
    with pytest.raises(ArtefactError, match="without a folder"):
        read_manifest(path)


def test_a_source_that_is_a_link_out_of_the_folder_must_be_named(tmp_path):
    path = network(tmp_path / "engine")
    (tmp_path / "net.safetensors").write_bytes(b"weights")
    (path.parent / "net.safetensors").symlink_to(tmp_path / "net.safetensors")
    source = FileRecord("net.safetensors", sha256_of(tmp_path / "net.safetensors"))
    manifest_of(path, source=source).write(path.parent)
    with pytest.raises(CheckpointError, match="name them with --source"):
        open_source(SourceRequest(), path)


def test_onnx_itself_reads_the_same_files(tmp_path):
    path = network(tmp_path)
    loaded = onnx.load(str(path))
    assert numpy_helper.to_array(loaded.graph.initializer[0]).any()
