"""The embedded scene generator: street scenes with exact labels, boxes and depth."""

from __future__ import annotations

from deploy_robust.data.scenes.canvas import CLASS_NAMES
from deploy_robust.data.scenes.source import SceneSource

__all__ = ["CLASS_NAMES", "SceneSource"]
