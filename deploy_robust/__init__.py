"""deploy-robust: adversarial robustness of deployed rain-removal engines.

`attack`, `check`, `compare`, `export`, `train` and `verify` are what the commands of the same names call. They are
imported when they are asked for: ``import deploy_robust`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy_robust.app.attack import attack
    from deploy_robust.app.check import check
    from deploy_robust.app.compare import compare
    from deploy_robust.app.export import export
    from deploy_robust.app.train import train
    from deploy_robust.app.verify import verify

__version__ = "0.1.0"
__all__ = ["__version__", "attack", "check", "compare", "export", "train", "verify"]

_HOMES = {name: f"deploy_robust.app.{name}" for name in ("attack", "check", "compare", "export", "train", "verify")}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
