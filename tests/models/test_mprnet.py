"""MPRNet and the ensemble made of it are the published networks: fingerprints, counts, ablations, official layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy_robust.errors import CheckpointError, UsageError
from deploy_robust.models.blocks import join_two, split_in_two
from deploy_robust.models.checkpoints import load_checkpoint, load_official, save_checkpoint
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENSEMBLE = "mprnet-r-seadd-mb"
ENTRIES = {
    "mprnet": ("mprnet", "official"),
    "ensemble_b1": (ENSEMBLE, "benchmark"),
    "ensemble_b4": (ENSEMBLE, "rc"),
}
SINGLE, DOUBLE = (torch.float32, 2e-5), (torch.float64, 1e-8)


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, list[int]]]:
    for name, below in tree.items():
        yield from _keys(below, f"{prefix}{name}.") if isinstance(below, dict) else [(f"{prefix}{name}", below)]


@pytest.fixture(scope="module")
def record(fingerprints: Any) -> Any:
    """The records, with the keys of all networks of a cascade written out; tensors of one value are one PReLU slope."""
    record = fingerprints("mprnet")
    for facts in record.entries.values():
        facts["keys"] = [
            (f"{network}{k}", shape) for network in facts["networks"] for k, shape in _keys(facts["key_tree"])
        ]
        slopes = [[k for k, shape in facts["keys"] if shape == [1] and k.startswith(n)] for n in facts["networks"]]
        facts["aliases"] = {copy: first for first, *copies in slopes for copy in copies}
    return record


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("mprnet", SINGLE),
        ("mprnet", DOUBLE),
        ("ensemble_b1", SINGLE),
        pytest.param("ensemble_b1", DOUBLE, marks=pytest.mark.slow),
        ("ensemble_b4", SINGLE),
        ("ensemble_b4", DOUBLE),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[0]).removeprefix("torch."),
)
def test_every_stage_matches_the_original_network(record: Any, entry: str, kind: tuple[torch.dtype, float]) -> None:
    dtype, tolerance = kind
    name, preset = ENTRIES[entry]
    model = MODELS.create(name, preset)
    model.load_state_dict(MODELS.spec(name).from_official(record.official_weights(entry)))
    model = model.to(dtype)
    unit = 1.0 if name == "mprnet" else 255.0
    with torch.inference_mode():
        stages = model.training_outputs(record.native_image(entry, dtype) / unit).stages
    # Recorded in the order in which the authors return them: the last stage of the last network first.
    names = [output["name"] for output in record.entries[entry]["outputs"]]
    assert "final" in names[0]
    assert len(stages) == len(names)
    found = dict(zip(names, (image * unit for image in reversed(stages)), strict=True))
    assert record.worst_deviation(entry, found) <= tolerance


@pytest.mark.parametrize(
    ("name", "preset", "arguments", "count"),
    [
        ("mprnet", "official", {}, 3_637_249),
        (ENSEMBLE, "benchmark", {}, 10_824_411),
        (ENSEMBLE, "rc", {}, 5_684_475),
        (ENSEMBLE, "benchmark", {"branch_reduction": 2}, 7_397_787),
        (ENSEMBLE, "benchmark", {"networks": 1}, 3_608_137),
        (ENSEMBLE, "rc", {"networks": 1}, 1_894_825),
        (ENSEMBLE, "benchmark", {"dilations": (1,)}, 3_780_795),
        (ENSEMBLE, "benchmark", {"attention": "none"}, 10_538_859),
        (ENSEMBLE, "rc", {"attention": "none"}, 5_398_923),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, preset: str, arguments: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        model = MODELS.create(name, preset, **arguments)
    assert model.parameter_count == model.published_parameter_count == count


@pytest.mark.parametrize(
    ("arguments", "stages"),
    [({"networks": 1}, 3), ({"dilations": (1,)}, 6), ({"attention": "none"}, 6), ({"attention": "se-mul"}, 6)],
)
def test_ablations_run_and_give_three_stages_per_network(arguments: dict[str, Any], stages: int) -> None:
    torch.manual_seed(0)
    model = MODELS.create(ENSEMBLE, "tiny", **arguments)
    x = torch.rand(1, 3, 32, 40)
    outputs = model.training_outputs(x)
    assert [image.shape for image in outputs.stages] == [x.shape] * stages
    sum(image.square().mean() for image in outputs.stages).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(rows=st.integers(1, 3), height=st.integers(1, 5), width=st.integers(1, 5))
def test_quarters_are_rows_of_a_batch_and_come_back_together(rows: int, height: int, width: int) -> None:
    x = torch.arange(rows * 3 * 4 * height * width).reshape(rows, 3, 2 * height, 2 * width)
    quarters = split_in_two(split_in_two(x, axis=-2), axis=-1)
    assert torch.equal(quarters[0], x[0, :, :height, :width])
    assert torch.equal(quarters[-1], x[-1, :, height:, width:])
    assert torch.equal(join_two(join_two(quarters, axis=-1), axis=-2), x)


def test_official_files_load_strictly_and_the_shared_slope_is_kept_once(record: Any, tmp_path: Path) -> None:
    state = record.official_weights("mprnet")
    torch.save({"epoch": 1, "state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pth")
    model, info = load_official("mprnet", "official", tmp_path / "a.pth")
    assert info.official
    assert torch.equal(model.state_dict()["network.slope"], state["shallow_feat1.1.body.1.weight"])
    assert [key for key in model.state_dict() if "slope" in key] == ["network.slope"]

    state["stage3_orsnet.orb3.body.7.body.1.weight"] = torch.tensor([0.5])
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"orb3\.body\.7\.body\.1\.weight differs"):
        load_official("mprnet", "official", tmp_path / "b.pth")


def test_weights_of_the_other_branch_reduction_are_refused_by_key(record: Any, tmp_path: Path) -> None:
    torch.save(record.official_weights("ensemble_b4"), tmp_path / "rc.pt")
    with pytest.raises(CheckpointError, match=r"of another shape: networks\.0\.shallow\.0\.block\.branches\.1\.first"):
        load_official(ENSEMBLE, "benchmark", tmp_path / "rc.pt")


def test_dilations_come_back_from_a_weights_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS.create(ENSEMBLE, "tiny", dilations=(1, 3)).eval()
    save_checkpoint(tmp_path / "e.safetensors", model, {})
    loaded, _ = load_checkpoint(tmp_path / "e.safetensors")
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"networks": 0}, "at least one network"),
        ({"dilations": ()}, "dilations"),
        ({"dilations": (1, 0)}, "dilations"),
        ({"branch_reduction": 0}, "branch reduction"),
        ({"attention": "se-ad"}, "did you mean 'se-add'"),
        ({"group_blocks": 0}, "group_blocks"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MODELS.create(ENSEMBLE, "tiny", **arguments)
