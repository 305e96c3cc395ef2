"""Key names of the authors' MPRNet checkpoints, and of the ensemble's, which are made of them, under our own names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from deploy_robust.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_STAGES = (1, 2)
_LEVELS = (1, 2, 3)

_PARTS = {
    **{f"shallow_feat{k}.0": f"shallow.{k - 1}.conv" for k in _LEVELS},
    **{f"shallow_feat{k}.1": f"shallow.{k - 1}.block" for k in _LEVELS},
    **{
        f"stage{s}_{coder}.{coder}_level{k}": f"{coder}s.{s - 1}.levels.{k - 1}.blocks"
        for s in _STAGES
        for coder in ("encoder", "decoder")
        for k in _LEVELS
    },
    **{
        f"stage{s}_encoder.down{k}{k + 1}.down.1": f"encoders.{s - 1}.downs.{k - 1}.conv"
        for s in _STAGES
        for k in (1, 2)
    },
    **{f"stage{s}_decoder.up{k + 1}{k}.up.1": f"decoders.{s - 1}.ups.{k - 1}.conv" for s in _STAGES for k in (1, 2)},
    **{f"stage{s}_decoder.skip_attn{k}": f"decoders.{s - 1}.skips.{k - 1}" for s in _STAGES for k in (1, 2)},
    **{f"stage2_encoder.csff_enc{k}": f"encoders.1.from_encoder.{k - 1}" for k in _LEVELS},
    **{f"stage2_encoder.csff_dec{k}": f"encoders.1.from_decoder.{k - 1}" for k in _LEVELS},
    **{f"stage3_orsnet.orb{k}.body": f"full_resolution.groups.{k - 1}.blocks" for k in _LEVELS},
    **{f"stage3_orsnet.conv_enc{k}": f"full_resolution.from_encoder.{k - 1}" for k in _LEVELS},
    **{f"stage3_orsnet.conv_dec{k}": f"full_resolution.from_decoder.{k - 1}" for k in _LEVELS},
    **{
        f"stage3_orsnet.up_{short}{theirs}.up.1": f"full_resolution.{coder}_ups.{ours}.conv"
        for short, coder in (("enc", "encoder"), ("dec", "decoder"))
        for theirs, ours in (("1", "1.0"), ("2.0", "2.0"), ("2.1", "2.1"))
    },
    **{
        f"sam{s}{s + 1}.conv{k}": f"attentions.{s - 1}.{layer}"
        for s in _STAGES
        for k, layer in enumerate(("features", "image", "gate"), start=1)
    },
    "concat12": "to_stage2",
    "concat23": "to_stage3",
    "tail": "tail",
}

_LAYERS = {"0": "first", "2": "second"}
_EXCITATION = {"0": "reduce", "2": "expand"}


def three_stages_key(key: str) -> str:
    """Our name, inside one `ThreeStages`, of one of the authors' tensors; unknown keys keep their names."""
    if match := re.fullmatch(r"(.+\.orb(\d)\.body)\.\d+\.weight", key):
        return f"full_resolution.group_ends.{int(match[2]) - 1}.weight"
    if match := re.fullmatch(r"(.+)\.body(\d?)\.([012])\.weight", key):
        part, branch, layer = match.groups()
        return "slope" if layer == "1" else f"{_part(part)}.branches.{int(branch or 1) - 1}.{_LAYERS[layer]}.weight"
    if match := re.fullmatch(r"(.+)\.CA(\d?)\.conv_du2?\.([02])\.weight", key):
        part, branch, layer = match.groups()
        return f"{_part(part)}.branches.{int(branch or 1) - 1}.attention.excitation.{_EXCITATION[layer]}.weight"
    part, _, kind = key.rpartition(".")
    return f"{_part(part)}.{kind}"


def _part(path: str) -> str:
    """Replaces the authors' name of a part; a number of a block in a chain may follow it."""
    if path in _PARTS:
        return _PARTS[path]
    chain, _, number = path.rpartition(".")
    return f"{_PARTS[chain]}.{number}" if chain in _PARTS else path


def renamed(state: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    """A state dict under other keys; keys that become one must hold equal tensors.

    Raises:
        CheckpointError: They do not: the shared PReLU slope of a network is stored once for every layer that uses it.
    """
    answer: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = rename(key)
        if name in answer and not torch.equal(answer[name], tensor):
            raise CheckpointError(
                f"{key} differs from the other copies of {name}, which are one shared number in the published network: "
                "the checkpoint is not of that network"
            )
        answer[name] = tensor
    return answer
