"""Entry point: finds the command, and turns every way to end into an exit code."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from deploy_robust import __version__
from deploy_robust.cli import exit_codes, signals
from deploy_robust.errors import DeployRobustError
from deploy_robust.registry import instead_of

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "demo": "Export the shipped network, attack the INT8 engine and judge it: the whole path on embedded data.",
    "check": "Attack and judge a deployed engine; exits 0 PASS, 1 FAIL, 3 INCONCLUSIVE.",
    "attack": "Craft adversarial images once and store them, for engines here and on other machines.",
    "compare": "Set engines side by side: parity, robustness under several attack sources, agreement, repeatability.",
    "verify": "Test by queries alone how often an engine breaks: a failure rate, with controlled errors.",
    "plan": "Say how many scenes, queries and minutes a `verify` will need.",
    "judge": "Judge the stored measurements of a run by another policy, without running anything.",
    "replay": "Run one case of a run again and compare it with what was stored.",
    "runs": "List run folders, show one, drop stored images to save room.",
    "export": "Turn a trained network into ONNX engines with verified parity.",
    "train": "Train a network of the zoo.",
    "train-vision": "Train a network that looks at derained images: segmentation or pedestrians.",
    "models": "List the networks of the zoo: presets, parameters, cost, sizes, references, licences.",
    "doctor": "Find out what is installed and which engines really run here.",
}
"""Command to its line in --help; each lives in the file of its name, which is imported when the command is used."""


class _Commands(click.Group):
    """Commands imported on use, so that --help costs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            raise click.UsageError(f"there is no command {name!r}: {instead_of(name, COMMANDS)}", ctx)
        command: click.Command = importlib.import_module(f"deploy_robust.cli.{name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="deploy-robust")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Adversarial robustness of deployed rain-removal engines: export, attack, measure, judge."""
    ctx.obj = debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and leaves the process.

    Exit codes: 0 PASS or done; 1 FAIL; 2 usage, files, environment or our own fault; 3 INCONCLUSIVE; 130 interrupted;
    143 terminated. A crash never ends with 0 or 1.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    signals.listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale says; reports are UTF-8, too
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(_run(list(arguments), debug="--debug" in arguments))


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        code = cli.main(args=arguments, prog_name="deploy-robust", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted; what was finished is kept, the same command goes on from there")
        return exit_codes.INTERRUPTED
    except signals.Terminated:
        _complain("terminated (SIGTERM); what was finished is kept, the same command goes on from there")
        return exit_codes.TERMINATED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
    except click.ClickException as error:
        _complain(_in_one_line(error))
    except (BrokenPipeError, SystemExit):
        # The reader has gone (`| head`): nobody is left to tell. click and rich turn that into SystemExit(1), which a
        # pipeline would read as FAIL.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # for the interpreter's last flush
    except DeployRobustError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error))
    except Exception as error:  # no traceback reaches the user, and no crash looks like a verdict
        if debug:
            traceback.print_exc()
        _complain(
            f"internal error, {type(error).__name__}: {' '.join(str(error).split())[:300]} "
            "(this is our fault; run `deploy-robust --debug ...` and report what it prints)"
        )
    else:
        return code if isinstance(code, int) else exit_codes.PASS
    return exit_codes.TROUBLE


def _in_one_line(error: click.ClickException) -> str:
    """What was typed wrongly, and where the right words are listed."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return message if context is None else f"{message} (see {context.command_path} --help)"


def _complain(message: str) -> None:
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    with contextlib.suppress(OSError):
        click.echo(f"deploy-robust: {printable}", err=True)
