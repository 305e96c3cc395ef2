"""Losses of the papers: each network trains on its own, against sums written out here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import convolve

from deploy_robust.errors import UsageError
from deploy_robust.models.registry import MODELS
from deploy_robust.training.crops import Batch
from deploy_robust.training.losses import parse_loss
from deploy_robust.training.paper_losses import PAPER_LOSSES, edge, loss_text

if TYPE_CHECKING:
    from deploy_robust.models.derainer import Derainer


def of(network: str) -> tuple[Derainer, Batch]:
    torch.manual_seed(1)
    return MODELS.create(network, "tiny").eval(), Batch(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))


def test_every_network_of_the_zoo_has_a_paper() -> None:
    assert set(PAPER_LOSSES) == set(MODELS.names())


@pytest.mark.parametrize("network", list(PAPER_LOSSES))
def test_every_paper_loss_reaches_the_weights(network: str) -> None:
    model, batch = of(network)
    value = parse_loss(loss_text("paper", network))(model, batch).total
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_rcdnet_matches_the_sum_of_its_paper() -> None:
    model, batch = of("rcdnet")
    found = parse_loss(loss_text("paper", "rcdnet"))(model, batch).total
    out = model.training_outputs(batch.rainy)
    rain = batch.rainy - batch.clean
    *earlier, last = (F.mse_loss(image, batch.clean) for image in out.stages)
    layers = [F.mse_loss(layer, rain) for layer in out.extras["rain"]]
    assert found.item() == pytest.approx((0.1 * sum(earlier) + 0.1 * sum(layers) + last + 0.9 * layers[-1]).item())


def test_jorder_matches_the_sum_of_its_paper_on_the_authors_batch_in_their_units() -> None:
    torch.manual_seed(1)
    model = MODELS.create("jorder-e", "tiny").eval()
    batch = Batch(torch.rand(8, 3, 64, 64), torch.rand(8, 3, 64, 64))
    found = parse_loss(loss_text("paper", "jorder-e"))(model, batch).total
    out = model.training_outputs(batch.rainy)
    level = batch.clean - batch.rainy
    images = sum(F.l1_loss(255 * image, 255 * batch.clean) for image in out.stages)
    mask = F.cross_entropy(out.extras["mask"], (level[:, 0] > 0).long(), reduction="sum")
    expected = images + 1e-3 * mask + 1e-2 * F.l1_loss(255 * out.extras["level"], 255 * level)
    assert 255 * found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("confident", [False, True])
def test_umrl_matches_the_sum_of_its_paper(confident: bool) -> None:
    model, batch = of("umrl")
    out = model.training_outputs(batch.rainy)
    if confident:
        out = type(out)(out.stages, {k: 0.99 + 0.01 * v if "conf" in k else v for k, v in out.extras.items()})
    found = sum(term(model, batch, out) for _, term in parse_loss(loss_text("paper", "umrl")).terms.values())
    scales, penalty = torch.zeros(()), torch.zeros(())
    for image, suffix, factor in (
        (out.final, "", 1),
        (out.extras["clean_half"], "_half", 2),
        (out.extras["clean_quarter"], "_quarter", 4),
    ):
        clean = F.interpolate(batch.clean, scale_factor=1 / factor, mode="nearest")
        c = out.extras[f"confidence{suffix}"]
        scales = scales + F.smooth_l1_loss(c * (2 * image - 1) + (1 - c) * (2 * clean - 1), 2 * clean - 1) / factor
        # One image, as the authors' batches of one: mean over images of the sum over its map.
        penalty = penalty - factor * c.log().sum((1, 2, 3)).mean() / (32 * 32)
    assert (penalty < 0.25).item() == confident
    weight = 0.009 * (torch.exp(5.4 * penalty) - 0.98) if confident else 0.1
    assert torch.as_tensor(found).item() == pytest.approx((scales + weight * penalty).item(), rel=1e-4)


def test_edge_matches_scipy() -> None:
    y, b = torch.rand(2, 1, 3, 12, 10, generator=torch.Generator().manual_seed(2)).double()
    taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05], dtype=torch.float64)
    kernel = torch.outer(taps, taps).numpy()

    def laplacian(x: torch.Tensor) -> torch.Tensor:
        planes = []
        for plane in x[0].numpy():
            low = convolve(plane, kernel, mode="nearest")
            kept = 0 * low
            kept[::2, ::2] = 4 * low[::2, ::2]
            planes.append(torch.from_numpy(plane - convolve(kept, kernel, mode="nearest")))
        return torch.stack(planes)

    expected = ((laplacian(y) - laplacian(b)).square() + 1e-6).sqrt().mean()
    assert edge(y, b).item() == pytest.approx(expected.item(), rel=1e-6)


def test_what_a_network_does_not_estimate_cannot_be_supervised() -> None:
    model, batch = of("prenet")
    with pytest.raises(UsageError, match="estimates no mask"):
        parse_loss("mse+mask")(model, batch)
    with pytest.raises(UsageError, match="takes no weight"):
        loss_text("0.5*paper", "prenet")
    assert loss_text("paper+0.2*mse", "prenet") == "ssim+0.2*mse"
