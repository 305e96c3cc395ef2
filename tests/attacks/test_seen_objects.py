"""Objectives on what is seen in an image: boxes and classes from labels, and the shipped segmentation network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.boxes import Boxes, beside, largest
from deploy_robust.attacks.objectives.downstream import SegmentationLoss, segmentation
from deploy_robust.attacks.objectives.lpips import features
from deploy_robust.attacks.registry import make_attack
from deploy_robust.data.pairs import Box, Labels
from deploy_robust.data.scenes import SceneSource
from deploy_robust.errors import UsageError
from deploy_robust.models.perceptual import FEATURE_NETWORKS, perceptual
from deploy_robust.models.vision.registry import load_vision


def blend(x: torch.Tensor) -> torch.Tensor:
    """A network that smooths."""
    return 0.5 * x + 0.5 * torch.nn.functional.avg_pool2d(x, 3, 1, 1)


def task(labels: list[Labels] | None, size: int = 32) -> Task:
    count = 1 if labels is None else len(labels)
    x = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    keys = tuple((f"pair-{i}", "attack") for i in range(count))
    return Task(x, torch.full((count, 1, 1, 1), 16 / 255), 3, keys, blend, blend(x), labels=labels)


TWO = Labels(boxes=(Box("car", 1, 2, 9, 8), Box("person", 20, 4, 24, 12), Box("person", 3, 10, 9, 20)))


def test_boxes_of_a_label_are_those_of_each_image():
    t = task([TWO, Labels()])
    assert Boxes.read("labels:person").of(t) == [((20, 4, 24, 12), (3, 10, 9, 20)), ()]
    assert Boxes.read("labels").of(t)[0][0] == (1, 2, 9, 8)
    assert largest(Boxes.read("labels:person").of(t)[0]) == (3, 10, 9, 20)
    with pytest.raises(UsageError, match="no labels came"):
        Boxes.read("labels").of(task(None))


@pytest.mark.parametrize(
    ("box", "place"), [((3, 1, 9, 5), (9, 1, 15, 5)), ((20, 0, 28, 9), (12, 0, 20, 9)), ((4, 0, 30, 2), (0, 0, 26, 2))]
)
def test_the_place_beside_an_object_has_its_size_and_lies_in_the_image(box, place):
    assert beside(box, 32) == place


def test_the_largest_object_of_an_image_is_hidden_and_an_image_without_one_stays_as_it_is():
    t = task([TWO, Labels()])
    chosen = {"box": "labels:person", "target": "beside", "mask": "boxes", "boxes": "labels:person"}
    attack = make_attack("hide", algorithm="pgd", objective="object", **chosen)
    found = attack.craft(t)
    moved = (found.images != t.x).any(1)
    inside = torch.zeros_like(moved)
    inside[0, 4:12, 20:24] = inside[0, 10:20, 3:9] = True
    assert not moved[~inside].any()
    assert moved[0, 10:20, 3:9].float().mean() > 0.9
    assert torch.equal(found.images[1], t.x[1])
    crop = (blend(found.images) - t.clean_output.roll(-6, -1))[0, :, 10:20, 3:9]
    before = (t.clean_output - t.clean_output.roll(-6, -1))[0, :, 10:20, 3:9]
    assert crop.square().mean() < 0.95 * before.square().mean()


def test_labels_are_read_in_the_heads_own_numbers():
    class Head(nn.Module):
        classes = ("sky", "person", "road")

        def forward(self, x):
            return torch.stack([x[:, 0], x[:, 1], x[:, 2]], 1)

    classes = np.array([[0, 1], [2, 255]], np.uint8)
    labels = Labels(classes, ("person", "house", "sky"))
    t = task([labels], 2)
    loss = SegmentationLoss(Head(), "test", against="labels").prepare(t)
    scores = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    wanted = -torch.stack([scores[0, :, 0, 0].log_softmax(0)[1], scores[0, :, 1, 0].log_softmax(0)[0]]).mean()
    torch.testing.assert_close(loss(scores)[0], wanted)
    with pytest.raises(UsageError, match="has no labels"):
        SegmentationLoss(Head(), "test", against="labels").prepare(replace(t, labels=[Labels()]))


def test_the_shipped_segmenter_measures_distances_of_any_size_and_is_not_called_lpips():
    assert "scene-segmenter" in FEATURE_NETWORKS
    by, x = perceptual("scene-segmenter"), torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    known = by.features(x)
    assert len(known) == 4
    assert torch.equal(by.distance(known, known), torch.zeros(2))
    noisy, noisier = (by.distance(by.features((x + s * torch.randn_like(x)).clamp(0, 1)), known) for s in (0.02, 0.2))
    assert ((noisy > 0) & (noisy < noisier)).all()
    assert features().settings == {"net": "scene-segmenter", "reference": "clean-output"}
    assert "lpips" not in features().name
    network, _ = load_vision("scene-segmenter")
    with torch.no_grad():
        straight = network.features(x[..., :32, :32].contiguous())
    for a, b in zip(by.features(x[..., :32, :32]), straight, strict=True):
        torch.testing.assert_close(a, torch.nn.functional.normalize(b, dim=1), atol=1e-5, rtol=0)


def test_gradients_through_the_shipped_segmenter_are_those_of_finite_differences():
    pair = SceneSource(1, size=(32, 32))[0]
    clean = torch.from_numpy(pair.clean.copy()).permute(2, 0, 1)[None].double() / 255
    t = Task(clean, torch.full((1, 1, 1, 1), 0.1).double(), 0, ((pair.id,),), blend, blend(clean), labels=[pair.labels])
    for objective in (features(), segmentation(against="labels")):
        loss = objective.prepare(t)
        z = (clean * 0.9 + 0.03).requires_grad_()
        assert torch.autograd.gradcheck(loss, (z,), eps=1e-7, atol=1e-6, rtol=1e-3, fast_mode=True)
