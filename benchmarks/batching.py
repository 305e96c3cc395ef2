"""How far batching alone moves an attack: PGD-20 in float32 on images together, and on each by itself.

    OMP_NUM_THREADS=1 python benchmarks/batching.py --out benchmarks/results/batching.json

Sums of another batch size round differently, and sign steps amplify the last bit. What a step does in float64 is equal
to 1e-9 (a test holds that); what 20 float32 steps leave of it is reported here and bounded nowhere.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch

from deploy_robust.attacks.attack import Task
from deploy_robust.attacks.pgd import pgd_lmse
from deploy_robust.attacks.threat import quantise
from deploy_robust.data.scenes import SceneSource
from deploy_robust.models.checkpoints import load_any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="prenet-small")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--level", type=int, default=4)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    torch.set_num_threads(1)
    net = load_any(args.weights)[0].eval().requires_grad_(False)
    source = SceneSource(args.count, size=(args.size, args.size))
    x, truth = (
        torch.stack([torch.from_numpy(getattr(source[i], kind).copy()) for i in range(args.count)]).permute(0, 3, 1, 2)
        / 255
        for kind in ("rainy", "clean")
    )

    def left(rows: slice) -> torch.Tensor:
        some = x[rows]
        eps = torch.full((some.shape[0], 1, 1, 1), args.level / 255)
        keys = tuple((source[i].id, "pgd-lmse") for i in range(args.count))[rows]
        with torch.no_grad():
            clean = net(some)
        z = quantise(pgd_lmse().craft(Task(some, eps, 0, keys, net, clean)).images)
        with torch.no_grad():
            output = quantise(net(z).clamp(0, 1))
        return -10 * (output - truth[rows]).square().mean((1, 2, 3)).log10()

    together = left(slice(None))
    apart = torch.cat([left(slice(i, i + 1)) for i in range(args.count)]) - together
    result = {
        "what": f"PGD-20 on LMSE at {args.level}/255, {args.weights}, {args.count} embedded scenes of {args.size} px, "
        "float32, one thread, 8-bit delivery: PSNR of one image by itself minus the same in a batch, dB",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "psnr_in_a_batch": [round(each, 3) for each in together.tolist()],
        "spread": [round(each, 4) for each in apart.tolist()],
        "largest": round(float(apart.abs().max()), 4),
        "mean": round(float(apart.mean()), 4),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
