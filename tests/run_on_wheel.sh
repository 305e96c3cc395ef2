#!/usr/bin/env bash
# Installs the built wheel into an environment of its own and runs the tests there, away from the checkout's folders.
# usage: run_on_wheel.sh VENV DIST [pytest arguments]
set -euo pipefail
venv=$(cd "$1" && pwd); dist=$(cd "$2" && pwd); shift 2
here=$(cd "$(dirname "$0")" && pwd)

installed=$venv/wheel
rm -rf "$installed"
"$venv/bin/python" -m venv --without-pip "$installed"
# The heavy libraries come from the first environment: its site-packages follow the wheel's own on the path, and its
# editable install stays asleep, because Python reads .pth files of its own site-packages only.
site=$("$installed/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
"$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > "$site/shared.pth"
"$venv/bin/python" -m pip --python "$installed/bin/python" install --quiet --no-deps --force-reinstall "$dist"/*.whl

export PATH="$installed/bin:$venv/bin:$PATH"
# One process for each core with one thread each beats one process with all of them, and gives the same digits everywhere.
export OMP_NUM_THREADS=1
cd "$here"
python -c '
import deploy_robust, deploy_robust.cli, deploy_robust.engines, deploy_robust.exporters, sys
for module in (deploy_robust, deploy_robust.cli, deploy_robust.engines, deploy_robust.exporters):
    assert module.__file__.startswith(sys.argv[1]), f"{module.__file__} is not the wheel"
' "$site"
exec python -m pytest -c ../pyproject.toml --rootdir .. --numprocesses auto --dist worksteal . "$@"
