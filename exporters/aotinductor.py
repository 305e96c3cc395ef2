"""Torch network to an AOTInductor package: native code for this kind of machine, with dynamic sizes."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from deploy_robust.artefact.exporter import Exported, Opening
from deploy_robust.artefact.files import atomic
from deploy_robust.errors import EnvironmentProblem, ExportError, first_line
from deploy_robust.exporters.onnx_fp32 import EXAMPLE, dynamic_shape
from deploy_robust.exporters.quiet import quiet

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from deploy_robust.artefact.exporter import ExportRequest


class AotInductor:
    """The network compiled ahead of time, for the CPU that it is compiled on."""

    name = "aotinductor"
    target = "aotinductor"
    precision = "fp32"
    suffix = ".pt2"
    starts_from = None
    calibrates = False
    opening = Opening(kind="aotinductor")

    def export(self, request: ExportRequest) -> Exported:
        """Traces, compiles, verifies and renames; see `Exporter.export`. Takes a minute or more."""
        from torch._inductor import aoti_compile_and_package

        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise EnvironmentProblem(
                f"compiling a package needs a C++ compiler and {compiler} is not there: install g++, or set CXX"
            )
        program = _traced(request)
        with atomic(request.path) as temporary:
            try:
                with quiet():
                    aoti_compile_and_package(
                        program,
                        package_path=str(temporary),
                        inductor_configs={"aot_inductor.metadata": dict(request.metadata)},
                    )
            except Exception as error:  # the compiler, or anything before it
                raise ExportError(
                    f"torch cannot compile {type(request.module).__name__}: {first_line(error)}"
                ) from error
            parity = request.verify(temporary)
        return Exported(request.path, parity, {"torch": version("torch")})


def _traced(request: ExportRequest) -> ExportedProgram:
    """The network with sizes that are dynamic in steps of its rule, or fixed where the rule is."""
    rule = request.size_rule
    height, width = rule.padded(*EXAMPLE) if rule.fixed is None else rule.fixed
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(
                request.module.eval(),
                (torch.zeros(2, 3, height, width),),
                dynamic_shapes=(dynamic_shape(rule),),
            )
    except Exception as error:
        raise ExportError(
            f"torch.export cannot trace {type(request.module).__name__} with sizes {rule}: {first_line(error)}; "
            "use sizes only through tensor shapes and H // 2, not int(H / 2)"
        ) from error


EXPORTER = AotInductor()
