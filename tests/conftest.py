"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real pairs, official weights and LPIPS trunks; tests that need it skip where it is not set."""
    folder = os.environ.get("DEPLOY_ROBUST_DATA")
    if not folder:
        pytest.skip("DEPLOY_ROBUST_DATA is not set: no real pairs or official weights to test with")
    path = Path(folder).resolve()
    if not (path / "rain100h").is_dir():
        pytest.fail(f"DEPLOY_ROBUST_DATA={folder} holds no rain100h folder")
    return path
