"""deploy-robust: adversarial robustness of deployed rain-removal engines."""

from __future__ import annotations

__version__ = "0.1.0"
