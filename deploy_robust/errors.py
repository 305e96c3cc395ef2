"""Every error that deploy-robust raises on purpose.

DeployRobustError          exit code 2; one line: what, where, what to do
|-- UsageError             options that contradict each other or lack something
|-- InputError             a file or folder that the user named: missing, damaged, of another kind
|   |-- ImageError         an image, or a pair of images
|   |-- CheckpointError    weights that do not fit, or a file that is not a plain state dict
|   |-- ArtefactError      an engine file or its manifest
|   `-- PolicyError        a policy file
|-- EnvironmentProblem     a library, provider or device that is not there, or does not come up
|-- ExportError            an export that failed or broke parity; nothing was left behind
|-- RunError               a run folder: in use, of another plan, of another schema, full
`-- EngineDefect           the engine loaded, accepted its input and then misbehaved: a verdict, exit code 1
"""

from __future__ import annotations


class DeployRobustError(Exception):
    """An error whose message is one line for the user: what was wrong, where, and what to do."""


class UsageError(DeployRobustError):
    """Options that contradict each other, or one that is missing."""


class InputError(DeployRobustError):
    """A file or folder that the user named cannot be used."""


class ImageError(InputError):
    """An image, or a pair of images, cannot be used."""


class CheckpointError(InputError):
    """A weights file does not fit its model, or is not a plain state dict."""


class ArtefactError(InputError):
    """An engine file or its manifest cannot be used."""


class PolicyError(InputError):
    """A policy file cannot be used."""


class EnvironmentProblem(DeployRobustError):  # noqa: N818  # EnvironmentError is a builtin
    """A library, provider or device is missing or did not come up."""


class ExportError(DeployRobustError):
    """An export failed, or its parity did; nothing was left behind."""


class RunError(DeployRobustError):
    """A run folder is in use, belongs to another plan, has another schema, or cannot be written."""


class EngineDefect(DeployRobustError):  # noqa: N818  # a finding about the engine, and not an error of the check
    """The engine accepted its input and then misbehaved.

    Attributes:
        kind: One word for the record: ``nan``, ``inf``, ``shape``, ``dtype``, ``crash`` or ``timeout``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[EngineDefect], tuple[str, str]]:
        """Pickles with its kind: defects cross from a worker process."""
        return type(self), (self.kind, str(self))


def first_line(error: BaseException) -> str:
    """The first line of a message that says something, cut to a length that a terminal holds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
