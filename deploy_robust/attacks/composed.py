"""An attack put together by names: algorithm, objective, mask, norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy_robust.attacks.algorithms import ALGORITHMS
from deploy_robust.attacks.ascent import GradientAscent, MaskWhen, Norm
from deploy_robust.attacks.masks.inverse import Inverse
from deploy_robust.attacks.masks.registry import MASKS
from deploy_robust.attacks.objectives.registry import OBJECTIVES
from deploy_robust.attacks.settings import check_settings, taken_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy_robust.attacks.masks.mask import Mask
    from deploy_robust.attacks.settings import Value

_INVERSE = "not-"


def _parts(
    *,
    algorithm: str = "pgd",
    objective: str = "lmse",
    mask: str = "",
    norm: Norm = "linf",
    mask_when: MaskWhen = "each-step",
) -> tuple[str, str, str, Norm, MaskWhen]:
    return algorithm, objective, mask, norm, mask_when


def compose(name: str, settings: dict[str, Value]) -> GradientAscent:
    """Builds it; every part takes those of the settings that are its own.

    Args:
        name: What the policy calls it.
        settings: ``algorithm``, ``objective``, ``mask`` (``not-`` before it for the inverse), ``norm``, ``mask_when``,
            and the settings of the parts.

    Raises:
        UsageError: There is no such part or setting, or a value is out of range.
    """
    own: dict[str, Any] = taken_by(_parts, settings)
    check_settings(name, own, _parts)
    algorithm, objective, mask, norm, mask_when = _parts(**own)
    search, aim = ALGORITHMS[algorithm], OBJECTIVES[objective]
    region: Callable[..., Mask] | None = MASKS[mask.removeprefix(_INVERSE)] if mask else None
    check_settings(name, settings, _parts, search, aim, *([] if region is None else [region]))
    found = search(**taken_by(search, settings))
    where = None if region is None else region(**taken_by(region, settings))
    return GradientAscent(
        name=name,
        objective=aim(**taken_by(aim, settings)),
        step=found.step,
        iterations=found.iterations,
        start=found.start,
        restarts=found.restarts,
        keep_best=found.keep_best,
        norm=norm,
        mask=Inverse(where) if where is not None and mask.startswith(_INVERSE) else where,
        mask_when=mask_when,
        stop_psnr=found.stop_psnr,
        stop_drop=found.stop_drop,
    )
