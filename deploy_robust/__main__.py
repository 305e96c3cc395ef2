"""``python -m deploy_robust`` is the same as ``deploy-robust``."""

from __future__ import annotations

from deploy_robust.cli.main import main

main()
