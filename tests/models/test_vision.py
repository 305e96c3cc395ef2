"""Vision networks: shapes, files, and boxes read from a dense answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from deploy_robust.data.scenes import CLASS_NAMES
from deploy_robust.errors import CheckpointError, UsageError
from deploy_robust.models.checkpoints import load_checkpoint
from deploy_robust.models.vision.centres import centres
from deploy_robust.models.vision.registry import SCENE_CLASSES, VISION, create_vision, load_vision, save_vision

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", list(VISION))
@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
def test_answers_are_dense_and_differentiable(name: str, size: tuple[int, int]) -> None:
    network = create_vision(name, "tiny").eval()
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    answer = network(x)
    scale = 1 if network.task == "segmentation" else 2
    channels = len(network.classes) + (0 if network.task == "segmentation" else 4)
    assert answer.shape == (2, channels, size[0] // scale, size[1] // scale)
    answer.square().mean().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert [f.shape[-1] for f in network.features(x)] == [size[1] // s for s in (2, 4, 8, 16)]


@pytest.mark.parametrize("name", list(VISION))
def test_a_batch_gives_what_its_images_give_alone(name: str) -> None:
    network = create_vision(name, "tiny").eval().double()
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(x), torch.cat([network(row[None]) for row in x]), atol=1e-12)


def test_the_classes_are_those_of_the_scenes() -> None:
    assert SCENE_CLASSES == CLASS_NAMES
    assert create_vision("segmenter", "tiny").classes == CLASS_NAMES


@pytest.mark.parametrize("name", list(VISION))
def test_small_networks_stay_small(name: str) -> None:
    assert 100_000 < create_vision(name, "small").parameter_count < 400_000


@pytest.mark.parametrize("name", list(VISION))
def test_weights_come_back_as_they_were_saved(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_vision(name, "tiny").eval()
    saved = save_vision(tmp_path / "w.safetensors", network, {"command": "none"})
    loaded, info = load_vision(tmp_path / "w.safetensors")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(x), network(x))
    assert info.weights_sha256 == saved.weights_sha256
    assert info.record == {"command": "none"}
    with pytest.raises(CheckpointError, match="another format"):
        load_checkpoint(tmp_path / "w.safetensors")  # they are no derainer's


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no vision network is named 'segmentor'"):
        create_vision("segmentor")
    with pytest.raises(UsageError, match="no preset 'huge'"):
        create_vision("detector", "huge")
    with pytest.raises(UsageError, match="no argument 'width'"):
        create_vision("detector", "tiny", width=3)
    with pytest.raises(UsageError, match="no vision weights are named"):
        load_vision("nobody")
    with pytest.raises(CheckpointError, match="not a file"):
        load_vision(tmp_path / "gone.safetensors")


def test_centres_become_boxes() -> None:
    """Two peaks of two classes, one beside a higher one, one below the threshold."""
    answer = torch.full((1, 2 + 4, 6, 8), -9.0)
    answer[0, 2:] = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]  # left, up, right, down
    answer[0, 0, 1, 2] = 3.0
    answer[0, 0, 1, 3] = 2.0  # beside the first: no peak
    answer[0, 1, 4, 6] = 1.0
    answer[0, 1, 0, 0] = -3.0  # too unsure
    (found,) = centres(answer, 2, threshold=0.1, most=10)
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9526, 0.7311], abs=1e-4)
    # Column 2 of two pixels a cell has its middle at 5: from 5 - 1 to 5 + 3.
    assert found.corners.tolist() == [[4.0, 1.0, 8.0, 7.0], [12.0, 7.0, 16.0, 13.0]]
    assert len(centres(answer, 2, threshold=0.1, most=1)[0].scores) == 1


def test_the_detector_reaches_from_every_place_outwards() -> None:
    torch.manual_seed(0)
    reach: Any = create_vision("detector", "tiny").eval()(torch.rand(1, 3, 32, 32))[:, 1:]
    assert bool((reach > 0).all())
