"""The use case `models`: the networks of the zoo in all their presets, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy_robust.models.counting import cost
from deploy_robust.models.registry import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy_robust.models.counting import Cost


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One network in one preset.

    Attributes:
        name: Name in the registry.
        title: Name in the literature.
        preset: Preset.
        arguments: Constructor arguments of the preset.
        parameters: Trainable values as stored here.
        published_parameters: The same as the publication counts them, with what the authors' code never uses.
        gmacs: 1e9 multiply-accumulates for one image of 480x320, raised to the size rule.
        size_rule: Heights and widths that the network takes as they are.
        native_range: Range of pixel values inside the network; outside it is always [0, 1].
        native_colour: Colour order inside the network.
        reference: Authors, title, venue.
        official_weights: Whether published checkpoints fit this preset.
        official_licence: Licence under which the authors publish their weights.
    """

    name: str
    title: str
    preset: str
    arguments: Mapping[str, Any]
    parameters: int
    published_parameters: int
    gmacs: float
    size_rule: str
    native_range: tuple[float, float]
    native_colour: str
    reference: str
    official_weights: bool
    official_licence: str


def model_rows(names: Iterable[str] = ()) -> list[ModelRow]:
    """Every preset of the networks of those names, or of all, in the order of the registry.

    Raises:
        UsageError: A name is unknown.
    """
    rows = []
    for name in list(names) or MODELS.names():
        spec = MODELS.spec(name)
        costs: dict[str, Cost] = {}
        for preset, arguments in spec.presets.items():
            key = repr(sorted(arguments.items()))  # official and benchmark are often the same network
            costs[key] = found = costs.get(key) or cost(name, preset)
            rows.append(
                ModelRow(
                    name=name,
                    title=spec.title,
                    preset=preset,
                    arguments=dict(arguments),
                    parameters=found.parameters,
                    published_parameters=found.published_parameters,
                    gmacs=round(found.gmacs, 2),
                    size_rule=str(spec.model_class().size_rule),
                    native_range=spec.native_range,
                    native_colour=spec.native_colour,
                    reference=spec.reference,
                    official_weights=preset in spec.official_presets,
                    official_licence=spec.official_licence,
                )
            )
    return rows
