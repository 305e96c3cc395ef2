"""Engine kinds and exporters, found by name through package entry points, so that any package may add one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from deploy_robust.errors import ArtefactError, EnvironmentProblem, UsageError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from pathlib import Path

    from deploy_robust.artefact.exporter import Exporter
    from deploy_robust.engine import EngineKind

ENGINES = "deploy_robust.engines"
EXPORTERS = "deploy_robust.exporters"


def engine_names() -> list[str]:
    """Names of all engine kinds that are installed, loaded or not."""
    return sorted(_entries(ENGINES))


def exporter_names() -> list[str]:
    """Names of all exporters that are installed."""
    return sorted(_entries(EXPORTERS))


def engine_kind(name: str) -> EngineKind:
    """The engine kind of a name.

    Raises:
        UsageError: There is none.
        EnvironmentProblem: Its package does not load.
    """
    return cast("EngineKind", _load(_entry(ENGINES, name, "engine")))


def engine_kind_for(path: Path) -> EngineKind:
    """The engine kind that opens files of this suffix.

    Raises:
        ArtefactError: No kind opens such files; kinds that did not load are named.
        UsageError: Several kinds do, so that one must be chosen by name.
    """
    suffix = path.suffix.lower()
    kinds: list[EngineKind] = []
    broken: list[str] = []
    for name in engine_names():
        try:
            kinds.append(engine_kind(name))
        except EnvironmentProblem as error:
            broken.append(str(error))
    fitting = [kind for kind in kinds if suffix in kind.suffixes]
    if not fitting:
        known = ", ".join(f"{s} ({kind.name})" for kind in kinds for s in kind.suffixes)
        trouble = "; ".join(["", *broken])
        raise ArtefactError(f"no engine opens {path} (suffix {suffix or 'none'}): known are {known}{trouble}")
    if len(fitting) > 1:
        raise UsageError(
            f"several engines open {suffix} files: choose one of {', '.join(kind.name for kind in fitting)} by name"
        )
    return fitting[0]


def exporter(name: str) -> Exporter:
    """The exporter of a name.

    Raises:
        UsageError: There is none.
        EnvironmentProblem: Its package does not load.
    """
    return cast("Exporter", _load(_entry(EXPORTERS, name, "exporter")))


def _entries(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise EnvironmentProblem(
                f"{_package(entry)} and {_package(other)} both offer {group} {entry.name!r}: uninstall one of them"
            )
    if not found:
        raise EnvironmentProblem(
            f"no package offers {group}: deploy-robust is not installed here; run pip install -e ."
        )
    return found


def _entry(group: str, name: str, word: str) -> EntryPoint:
    known = _entries(group)
    if name in known:
        return known[name]
    raise UsageError(f"no {word} is named {name!r}: {instead_of(name, sorted(known))}")


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a third party's module may fail in any way
        raise EnvironmentProblem(
            f"{_package(entry)} offers {entry.name!r} ({entry.value}) and it does not load "
            f"({type(error).__name__}: {error}): repair or uninstall {_package(entry)}"
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
