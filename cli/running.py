"""Options of every command that runs engines: draws, device, memory, patience."""

from __future__ import annotations

import click

from deploy_robust.cli.options import Finite

SEED = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Keys all random draws.")
DEVICE = click.option("--device", default="cpu", show_default=True, help="Where all runs: cpu, cuda, cuda:1.")
THREADS = click.option("--threads", type=click.IntRange(min=1), help="Threads on the CPU, for attacks and engines.")
BATCH = click.option("--batch", type=click.IntRange(min=1), help="Pairs in a batch. [default: 1 on a CPU, 8 on a GPU]")
ROWS = click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Images attacked together; fewer need less memory. [default: all epsilons of the batch]",
)
TIMEOUT = click.option(
    "--timeout",
    type=Finite(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds that one call of an engine may take before it counts as hanging.",
)
