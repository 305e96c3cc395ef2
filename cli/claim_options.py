"""Options that say what `verify` is to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from deploy_robust.cli.options import Finite, stacked
from deploy_robust.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from deploy_robust.app.verify import Claim, Property

F = TypeVar("F", bound="Callable[..., Any]")

_KEEPS = {
    "min_psnr": ("--min-psnr", "attacked-psnr"),
    "max_drop": ("--max-drop", "drop"),
    "min_drift": ("--min-drift", "drift"),
}
_DECIBELS = Finite(min=0, min_open=True)


def claim_options(command: F) -> F:
    """Adds the options; `claim` reads them."""
    return stacked(
        command,
        click.option(
            "--p0", type=Finite(), default=0.05, show_default=True, help="Failure rate between PASS and FAIL."
        ),
        click.option(
            "--alpha",
            type=Finite(),
            default=0.05,
            show_default=True,
            help="Probability of a wrong PASS, of a wrong FAIL.",
        ),
        click.option(
            "--epsilon", multiple=True, default=["1/255"], show_default=True, help="Like 2/255; may be given again."
        ),
        click.option(
            "--queries", type=click.IntRange(min=1), default=100, show_default=True, help="Of each search on each unit."
        ),
        click.option("--attack", "suite", multiple=True, help="Attack of the suite. [default: corners, local-credit]"),
        click.option("--min-psnr", type=_DECIBELS, help="A unit keeps at least this PSNR, in dB."),
        click.option("--max-drop", type=_DECIBELS, help="A unit loses at most this, in dB of PSNR."),
        click.option("--min-drift", type=_DECIBELS, help="A unit stays this close to its clean output, in dB."),
        click.option(
            "--attempt",
            type=click.IntRange(min=1),
            help="Which test of this claim on these units it is; alpha is then shared by all of them.",
        ),
    )


def claim(options: MutableMapping[str, Any]) -> Claim:
    """The claim that the options make; they are taken out.

    Raises:
        UsageError: Two properties, or an epsilon that an 8-bit camera does not see.
    """
    from deploy_robust.app.verify import SUITE, Claim
    from deploy_robust.attacks.threat import parse_epsilon, whole_levels

    levels = dict.fromkeys(float(whole_levels(parse_epsilon(text))) for text in options.pop("epsilon"))
    return Claim(
        p0=options.pop("p0"),
        alpha=options.pop("alpha"),
        levels=tuple(sorted(levels)),
        keeps=_keeps(options),
        queries=options.pop("queries"),
        suite=tuple(dict.fromkeys(options.pop("suite"))) or SUITE,
        attempt=options.pop("attempt") or 0,
    )


def _keeps(options: MutableMapping[str, Any]) -> Property:
    from deploy_robust.app.verify import NO_HARM, Property

    given = {key: value for key in _KEEPS if (value := options.pop(key)) is not None}
    if len(given) > 1:
        raise UsageError(f"a unit keeps one property: give one of {', '.join(_KEEPS[key][0] for key in given)}")
    for key, value in given.items():
        if key == "max_drop":
            return Property(_KEEPS[key][1], None, value)
        return Property(_KEEPS[key][1], value, None)
    return NO_HARM
