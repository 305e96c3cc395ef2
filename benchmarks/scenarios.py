"""Whether each scenario of the paper does what it says: unnoticeable, input-close, object-sensitive, rain region.

    python benchmarks/scenarios.py crops --out benchmarks/results/scenarios-crops.json
    python benchmarks/scenarios.py scenes --perceptual scene-segmenter --out benchmarks/results/scenarios-scenes.json

PGD-20 on every image at one epsilon, delivered as 8 bits. ``crops`` takes centres of real pairs of DEPLOY_ROBUST_DATA,
``scenes`` embedded ones. Distances are between attacked and clean output unless they say otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.registry import make_attack
from deploy_robust.attacks.threat import quantise
from deploy_robust.data.folders import FolderSource
from deploy_robust.data.scenes import SceneSource
from deploy_robust.data.select import Cropped
from deploy_robust.models.checkpoints import load_any
from deploy_robust.models.perceptual import perceptual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from deploy_robust.data.pairs import Pair
    from deploy_robust.models.perceptual import Perceptual


def pairs(args: argparse.Namespace) -> Iterator[Pair]:
    if args.images == "scenes":
        source = SceneSource(args.count, size=(args.size, args.size))
        yield from (source[i] for i in range(args.count))
        return
    folder = Path(os.environ["DEPLOY_ROBUST_DATA"]) / args.folder
    crops = Cropped(FolderSource(folder / "rain", folder / "norain"), (args.size, args.size))
    yield from (crops[i] for i in range(args.count))


def attacks(args: argparse.Namespace, size: int) -> dict[str, dict[str, Any]]:
    """The scenarios by name, as a policy would compose them; the object is a box left of the middle."""
    seen = (
        {"net": args.perceptual} if args.perceptual == "scene-segmenter" else {"net": args.perceptual, "trunk": trunk()}
    )
    quarter, half = size // 4, size // 2
    box, target = f"{quarter},{quarter},{half},{half + quarter}", f"{half},{quarter},{half + quarter},{half + quarter}"
    whole = {
        "lmse": {"objective": "lmse"},
        **{
            f"unnoticeable, lambda {w:g}": {"objective": "unnoticeable", "weight": w, **seen}
            for w in args.weights_of_mse
        },
        "input-close": {"objective": "input-close"},
        "input-close-perceptual": {"objective": "input-close-perceptual", **seen},
        "object": {"objective": "object", "box": box, "target": target, "mask": "boxes", "boxes": box},
        "rain-region": {"objective": "lmse", "mask": "rain"},
        "no-rain-region": {"objective": "lmse", "mask": "not-rain"},
    }
    return {name: {"algorithm": "pgd", "iterations": args.iterations, **given} for name, given in whole.items()}


def trunk() -> str:
    return "" if "DEPLOY_ROBUST_LPIPS" in os.environ else str(Path(os.environ.get("DEPLOY_ROBUST_DATA", "")) / "lpips")


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a.clamp(0, 1) - b.clamp(0, 1)).square().mean().clamp(min=1e-10).log10())


def measured(net: nn.Module, by: Perceptual, pair: Pair, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Figures of one image by scenario."""
    assert pair.clean is not None
    x, truth = (torch.from_numpy(each.copy()).permute(2, 0, 1)[None] / 255 for each in (pair.rainy, pair.clean))
    with torch.no_grad():
        clean = net(x)
        known = by.features(clean)
        found = {"clean": {"psnr to truth": psnr(clean, truth), "psnr to input": psnr(clean, x)}}
    eps = torch.full((1, 1, 1, 1), args.level / 255)
    for name, given in attacks(args, x.shape[-1]).items():
        attack = make_attack("scenario", **given)
        z = quantise(attack.craft(Task(x, eps, 0, ((pair.id, name),), net, clean, truth)).images)
        with torch.no_grad():
            y = net(z)
            figures = {
                "psnr to truth": psnr(y, truth),
                "psnr to clean output": psnr(y, clean),
                "psnr to input": psnr(y, x),
                "perceptual distance": float(by.distance(by.features(y), known)),
            }
        if attack.mask is not None:
            region = attack.mask.region(Task(x, eps, 0, ((pair.id, name),), net, clean, truth)).expand_as(x)
            figures |= {
                "mask share": float(region.float().mean()),
                "largest change outside": float(((z - x)[~region].abs().max()) if (~region).any() else 0),
            }
        if name == "object":
            loss = attack.objective.prepare(Task(x, eps, 0, ((pair.id, name),), net, clean, truth))
            figures |= {"crop distance before": -float(loss(clean)), "crop distance": -float(loss(y))}
        found[name] = figures
    return found


def findings(table: dict[str, dict[str, float]]) -> dict[str, bool]:
    """What each scenario promises, on means over the images."""
    lmse = table["lmse"]
    hidden = [table[name] for name in table if name.startswith("unnoticeable")]
    near = {
        name: row["psnr to input"] for name, row in table.items() if name not in ("clean", "input-close-perceptual")
    }
    lost = {name: table["clean"]["psnr to truth"] - table[name]["psnr to truth"] for name in ("lmse", "rain-region")}
    return {
        "a lambda gives a higher perceptual distance at a higher PSNR than LMSE": any(
            row["perceptual distance"] > lmse["perceptual distance"]
            and row["psnr to clean output"] > lmse["psnr to clean output"]
            for row in hidden
        ),
        "input-close brings the output nearer to the input than any other": max(near, key=lambda n: near[n])
        == "input-close",
        "object lowers the crop distance": table["object"]["crop distance"] < table["object"]["crop distance before"],
        "nothing changes outside the box": table["object"]["largest change outside"] == 0,
        "the rain region costs at least a third of the whole image's dB": lost["rain-region"] >= lost["lmse"] / 3,
        "nothing changes outside the rain": table["rain-region"]["largest change outside"] == 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", choices=["crops", "scenes"])
    parser.add_argument("--weights", default="prenet-small", help="shipped weights, or the official PReNet as a .pth")
    parser.add_argument("--perceptual", default="alex", help="LPIPS net, or scene-segmenter")
    parser.add_argument("--weights-of-mse", type=float, nargs="+", default=[1.0, 5.0, 25.0], help="lambda, swept")
    parser.add_argument("--folder", default="rain100h", help="of DEPLOY_ROBUST_DATA")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--level", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    torch.set_num_threads(1)
    official = {"name": "prenet", "preset": "official"} if args.weights.endswith(".pth") else {}
    net = load_any(args.weights, **official)[0].eval().requires_grad_(False)
    by = perceptual(args.perceptual, "" if args.perceptual == "scene-segmenter" else trunk())
    rows = [measured(net, by, pair, args) for pair in pairs(args)]
    table = {
        name: {key: round(sum(row[name][key] for row in rows) / len(rows), 6) for key in rows[0][name]}
        for name in rows[0]
    }
    images = f"{args.count} {args.folder if args.images == 'crops' else 'embedded'} {args.images} of {args.size} px"
    result = {
        "what": f"PGD-{args.iterations} at {args.level}/255 delivered as 8 bits, {Path(args.weights).name}, {images}, "
        f"perceptual distance {args.perceptual}; means over the images, PSNR in dB",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "means": table,
        "findings": findings(table),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
