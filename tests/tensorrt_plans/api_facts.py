"""Names that TensorRT's bindings offer, recorded per version: what exists, and how methods are called.

Only names are recorded: facts, and none of NVIDIA's text or code. To record a new version, with stubs or the real
library in place: ``python tests/tensorrt/api_facts.py tensorrt_bindings > tests/tensorrt/api/VERSION.json``.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

API = Path(__file__).parent / "api"

VERSIONS = ("10.13.3.9", "10.16.1.11", "11.4.0.106")

CLASSES = (
    "Builder",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
)
"""Classes on whose objects our code calls something."""


def record(trt) -> dict:
    """Everything that is compared, as plain data."""
    names = sorted(name for name in dir(trt) if not name.startswith("_"))
    enums = {
        name: sorted(getattr(trt, name).__members__) for name in names if hasattr(getattr(trt, name), "__members__")
    }
    severity = {"ILogger.Severity": sorted(trt.ILogger.Severity.__members__)}
    return {
        "version": trt.__version__,
        "names": names,
        "enums": {**enums, **severity},
        "classes": {name: _members(getattr(trt, name)) for name in CLASSES},
    }


def _members(kind) -> dict[str, list[str]]:
    found = {}
    for name in dir(kind):
        if not name.startswith("_") or name == "__init__":
            member = getattr(kind, name)
            if isinstance(member, property):
                found[name] = ["rw" if member.fset else "ro"]
            else:
                found[name] = _signatures(name, member)
    return found


def _signatures(name: str, member) -> list[str]:
    """Parameters of every overload, ``=`` behind those that may be left out: ``["flags="]``."""
    lines = [line for line in (member.__doc__ or "").splitlines() if re.match(rf"(\d+\. )?{name}\(", line)]
    if len(lines) > 1:
        lines = [line for line in lines if not line.startswith(f"{name}(*args")]
    return [_parameters(line.partition("(")[2]) for line in lines]


def _parameters(text: str) -> str:
    depth, parts, current = 0, [], ""
    for sign in text:
        if sign in "([{<":
            depth += 1
        elif sign in ")]}>" and depth:
            depth -= 1
        elif sign == ")":
            break
        elif sign == "," and not depth:
            parts.append(current)
            current = ""
            continue
        current += sign
    parts.append(current)
    shown = []
    for part in parts:
        name, _, default = part.strip().partition(" = ")
        name = name.partition(":")[0]
        if name not in ("self", ""):
            shown.append(name + ("=" if default else ""))
    return ", ".join(shown)


def recorded(version: str) -> dict:
    return json.loads((API / f"{version}.json").read_text(encoding="utf-8"))


def dumped(facts: dict) -> str:
    """JSON with one class or enum a line: a version's difference is readable."""
    parts = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value[name])}" for name in sorted(value))
            parts.append(f" {json.dumps(key)}: {{\n{rows}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    print(dumped(record(importlib.import_module(sys.argv[1]))), end="")  # noqa: T201
