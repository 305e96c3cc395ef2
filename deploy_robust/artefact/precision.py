"""What a graph computes in: the share of its multiply-accumulates that run in each type.

Only work on the way from the image to the output counts. What a constant decides is followed: unused weights, branches
that a constant condition never takes, values that are multiplied by zero or added where they are too small to be seen.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from deploy_robust.artefact.graph_values import NOMINAL_SIDE, Values

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

    from deploy_robust.artefact.graph_values import Step

STRICTNESS = ("fp64", "fp32", "fp16", "bf16", "int16", "fp8", "int8", "int4")
"""Types of products, those with the tightest parity bounds first."""

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
"""What parity bounds are known for, and what a manifest or a user may claim."""

_JUDGED_AS = {"fp64": "fp32", "int16": "fp16", "int4": "int8"}
"""Bounds of types that have none of their own; nothing is judged more loosely than an eight-bit engine."""

_FLOATS = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16"}
"""Floating-point types by ONNX's number."""

_CODES = {
    **dict.fromkeys((2, 3), "int8"),
    **dict.fromkeys((4, 5), "int16"),
    **dict.fromkeys((17, 18, 19, 20), "fp8"),
    **dict.fromkeys((21, 22, 23, 25, 26), "int4"),
}
"""Types of quantised codes by ONNX's number; four-bit floats and two-bit integers are called by the nearest name."""

LEAST_SHARE = 1 / 3
"""A graph is judged as the most exact type that this share of its work runs in, counting more exact types with it."""

_MOST_CHOICES = 64
"""Operators Where that are looked into; where there are more, both sides of the others count."""

_CONVOLUTIONS = (
    *("Conv", "FusedConv", "NhwcConv", "NhwcFusedConv", "DeformConv"),
    *("QLinearConv", "ConvInteger", "ConvIntegerToFloat"),
)
_PRODUCTS = (
    *("MatMul", "FusedMatMul", "TransposeMatMul", "Gemm", "FusedGemm", "GemmFloat8", "FusedMatMulActivation"),
    *("QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm"),
    *("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger16"),
)
_RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
_ATTENTION = ("Attention", "MultiHeadAttention", "GroupQueryAttention", "QAttention")
_INTEGER = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "QGemm", "QAttention")
"""Operators that multiply integers whatever their inputs' types say begin so."""

_WEIGHTS = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Which input of an operator holds its weights, where that is not the second."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How the work of a graph is divided among types.

    Attributes:
        work: Type to its multiply-accumulates for one image; operators where nothing multiplies.
        by_weights: Whether sizes could not be inferred, so that every layer counts as if it ran at one size.
    """

    work: Mapping[str, float]
    by_weights: bool = False

    @property
    def judged(self) -> str:
        """One of `PRECISIONS`: the bounds that hold for the graph.

        The types are added up from the most exact one until they carry a third of the work: the looser bounds of a
        cheaper type hold only where it does more than two thirds of it.
        """
        total, sum_ = sum(self.work.values()), 0.0
        for kind in STRICTNESS:
            sum_ += self.work.get(kind, 0.0)
            if total and sum_ >= LEAST_SHARE * total:
                return _JUDGED_AS.get(kind, kind)
        return "fp32"

    @property
    def mixed(self) -> bool:
        """Whether another type than one does at least half a percent of the work."""
        total = sum(self.work.values())
        return sum(share >= 0.005 * total for share in self.work.values()) > 1

    def __str__(self) -> str:
        """Like ``int8 71 %, fp32 29 %``; what is below half a percent is left out."""
        total = sum(self.work.values()) or 1.0
        ordered = sorted(self.work.items(), key=lambda item: -item[1])
        shares = [(kind, 100 * work / total) for kind, work in ordered]
        return ", ".join(f"{kind} {share:.0f} %" for kind, share in shares if share >= 0.5) or "fp32 100 %"


def precision_of(model: onnx.ModelProto, folder: Path | None = None) -> str:
    """What a graph is judged as; see `Shares.judged`."""
    return shares_of(model, folder).judged


def shares_of(model: onnx.ModelProto, folder: Path | None = None) -> Shares:
    """The work of a graph by type, for one image of 256 pixels a side where the graph fixes no size.

    A product is of 8 bits where both of its operands are dequantised codes, or where its operator multiplies integers;
    otherwise it is of the type of its values. Weights that are stored in fewer bits and made floats again before they
    are used save memory, and the product is of floats.

    Args:
        model: The graph; it may be without its external data.
        folder: Where external data lies; None where everything is loaded. What cannot be read counts as not zero.
    """
    values = Values.of(model, folder)
    for by_weights in (False, True):
        work = _work(values, by_weights=by_weights)
        if work is not None:
            return Shares(work or _elementwise(values), by_weights)
    return Shares({})


def _work(values: Values, *, by_weights: bool) -> dict[str, float] | None:
    """Type to multiply-accumulates; None where a size is needed and not known.

    Of a Where whose condition is not known, the side counts that makes looser bounds less likely, or both.
    """
    never: frozenset[tuple[int, int]] = frozenset()
    found = _counted(values, never, by_weights=by_weights)
    for step in islice(values.choices(), _MOST_CHOICES):
        for side in (1, 2):
            cut = never | {(id(step), side)}
            other = _counted(values, cut, by_weights=by_weights)
            if found is not None and other and _exactness(other) > _exactness(found):
                found, never = other, cut
    return found


def _exactness(work: Mapping[str, float]) -> float:
    total = sum(work.values())
    return _for_exact(work) / total if total else 0.0


def _counted(values: Values, never: frozenset[tuple[int, int]], *, by_weights: bool) -> dict[str, float] | None:
    """The same, with inputs that are taken to be never read."""
    found: defaultdict[tuple[int, ...], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for step in values.live(never):
        if not _multiplies(step):
            continue
        amount = _by_weights(values, step) if by_weights else _products(values, step)
        if amount is None:
            return None
        found[step.branch][_type_of(values, step)] += amount * step.times
    total = dict(found.pop((), {}))
    for number in {branch[0] for branch in found}:
        # Nobody knows which of the two runs: the one counts that makes looser bounds less likely.
        for kind, amount in max(found[number, 0], found[number, 1], key=_for_exact).items():
            total[kind] = total.get(kind, 0.0) + amount
    return {kind: amount for kind, amount in total.items() if amount}


def _for_exact(work: Mapping[str, float]) -> float:
    """How much a part of the work speaks for judging the whole as fp32; above 0 where it would be, alone."""
    exact = work.get("fp64", 0.0) + work.get("fp32", 0.0)
    return exact * (1 - LEAST_SHARE) - (sum(work.values()) - exact) * LEAST_SHARE


def _multiplies(step: Step) -> bool:
    ops = (*_CONVOLUTIONS, *_PRODUCTS, *_RECURRENT, *_ATTENTION, "ConvTranspose", "Einsum")
    return step.op in ops


def _products(values: Values, step: Step) -> float | None:
    """Multiply-accumulates of one step; None where a size is not known, or fits no such operator."""
    try:
        return _by_sizes(values, step)
    except (IndexError, ValueError, OverflowError):
        return None


def _by_sizes(values: Values, step: Step) -> float | None:
    """Multiply-accumulates of one step by the sizes of its values."""
    image, weights, out = (values.shape(name) for name in (step.at(0), _weights_of(step), step.outputs[0]))
    if image is None:
        return None
    if step.op in _RECURRENT:
        sizes = [values.shape(step.at(i)) for i in (1, 2)]
        return None if None in sizes else math.prod(image[:2]) * sum(math.prod(size) for size in sizes if size)
    if step.op in _ATTENTION:
        return 2.0 * math.prod(image) * image[-2]
    if step.op == "ConvTranspose":
        return None if weights is None else math.prod(image) * math.prod(weights) / max(1, weights[0])
    if out is None:
        return None
    if step.op == "Einsum":
        return _einsum(values, step)
    if step.op in _CONVOLUTIONS:
        return None if weights is None else math.prod(out) * math.prod(weights) / max(1, weights[0])
    across = image[0] if step.attribute("transA") and len(image) > 1 else image[-1] if image else 1
    return float(math.prod(out) * across)


def _einsum(values: Values, step: Step) -> float | None:
    """The product over all letters' sizes."""
    sizes: dict[str, int] = {}
    equation = step.text("equation").replace(" ", "").split("->")[0]
    for name, letters in zip(step.inputs, equation.split(","), strict=False):
        shape = values.shape(name)
        if shape is None or "." in letters or len(shape) != len(letters):
            return None
        sizes.update(zip(letters, shape, strict=True))
    return float(math.prod(sizes.values()))


def _by_weights(values: Values, step: Step) -> float:
    """The size of the weights times the pixels of the nominal image: the fall-back where sizes cannot be inferred."""
    weights = values.shape(_weights_of(step)) or values.shape(step.at(0))
    return float(math.prod(weights) if weights else 1) * NOMINAL_SIDE**2


def _weights_of(step: Step) -> str:
    return step.at(_WEIGHTS.get(step.op, 1))


def _type_of(values: Values, step: Step) -> str:
    """Type of the products of one step."""
    if step.op.startswith(_INTEGER):
        codes = (values.kind(step.at(0)), values.kind(_weights_of(step)))
        return _widest([name for kind in codes if (name := _CODES.get(kind))] or ["int8"])
    operands = [step.at(0), *([] if step.op in _ATTENTION else [_weights_of(step)])]
    codes_of = [values.codes(name) for name in operands]
    if all(code is not None for code in codes_of):
        return _widest([_CODES.get(code or 0, "fp32") for code in codes_of])
    for name in (step.outputs[0], *operands):
        if (named := _FLOATS.get(values.kind(name))) is not None:
            return named
    return "fp32"


def _widest(kinds: list[str]) -> str:
    return min(kinds, key=STRICTNESS.index)


def _elementwise(values: Values) -> dict[str, float]:
    """Where nothing on the way multiplies by weights: the operators on the way that compute, by type.

    One between dequantisers and a quantiser is of 8 bits. Quantisers count only where there is nothing else.
    """
    found: defaultdict[str, float] = defaultdict(float)
    idle: defaultdict[str, float] = defaultdict(float)
    for step in values.live():
        if step.op == "QuantizeLinear":
            idle[_CODES.get(values.kind(step.outputs[0]), "int8")] += 1
        elif step.op == "DequantizeLinear" or step.moves:
            continue
        elif (named := _FLOATS.get(values.kind(step.outputs[0]))) is not None:
            read = [values.codes(name) for name in step.inputs if values.depends(name)]
            codes = [_CODES[code] for code in read if code in _CODES]
            found[_widest(codes) if codes and len(codes) == len(read) else named] += 1
    return dict(found or idle)
