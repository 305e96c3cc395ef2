"""What the twins' measurements say: means, gains with intervals, and whether the gain survives stronger attacks."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from twins_measure import LEVELS, PRECISIONS, TABLE

from deploy_robust.statistics.intervals import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Measurements = list[dict[str, Any]]
Case = tuple[str, str]
"""An image and an epsilon in grey levels."""

TWINS = ("plain", "robust")
STRONGEST = "the strongest on each image"


def rows(measurements: Measurements) -> list[dict[str, Any]]:
    """Every row of the table: means of a twin, and the robust twin minus another one."""
    found = []
    for weights, data in _unique((m["weights"], m["data"]) for m in measurements if m["attack"] == TABLE):
        for precision in PRECISIONS:
            for camera in ("8-bit", "float"):
                where = {"data": data, "weights": weights, "engine": precision, "camera": camera}
                twins = {
                    twin: _columns([m for m in measurements if _is(m, weights, data, twin, TABLE)], precision, camera)
                    for twin in _twins(measurements, weights, data)
                }
                found += [{**where, "twin": twin, **_means(columns)} for twin, columns in twins.items()]
                found += [
                    {**where, "gain_over": twin, **gains}
                    for twin, columns in twins.items()
                    if twin != "robust" and (gains := _gains(columns, twins.get("robust", {})))
                ]
    return found


def masking(measurements: Measurements) -> list[dict[str, Any]]:
    """For each attack beside PGD-20: the gain of the robust twin under it, and its share of that under PGD-20.

    Both gains are means over the same images at the same epsilon. Gradients are masked where an attack that does not
    follow them, or follows them longer, gets further with the robust twin: ``beyond_pgd_20`` is the robust twin's PSNR
    under the attack minus that under PGD-20, below 0 where the attack is stronger. A weaker attack takes less of either
    twin, so that its share is small for that reason alone: the last row, `STRONGEST`, takes each image of each twin at
    its worst over all attacks.
    """
    found = []
    for weights, data in _unique((m["weights"], m["data"]) for m in measurements if m["attack"] != TABLE):
        here = [m for m in measurements if (m["weights"], m["data"]) == (weights, data)]
        attacks = _unique(_budgeted(m) for m in here if m["attack"] != TABLE)
        scores = {(twin, attack): _scores(here, twin, attack) for twin in TWINS for attack in (TABLE, *attacks)}
        if len(attacks) > 1:
            for twin in TWINS:
                scores[twin, STRONGEST] = _worst([scores[twin, attack] for attack in (TABLE, *attacks)])
            attacks.append(STRONGEST)
        for attack in attacks:
            of = {(twin, name): scores[twin, name] for twin in TWINS for name in (attack, TABLE)}
            cases = sorted(set.intersection(*(set(each) for each in of.values())))
            for level in _unique(level for _, level in cases):
                at = [case for case in cases if case[1] == level]
                if len(at) > 1:
                    where = {"data": data, "weights": weights, "attack": attack, "epsilon": f"{level}/255"}
                    found.append(where | _kept(of, attack, at))
    return found


def _kept(scores: dict[tuple[str, str], dict[Case, float]], attack: str, cases: list[Case]) -> dict[str, Any]:
    """What is left of the gain under PGD-20; scores by twin and attack."""
    score = {key: [each[case] for case in cases] for key, each in scores.items()}
    gain, usual = (
        mean_interval([b - a for a, b in zip(score["plain", name], score["robust", name], strict=True)])
        for name in (attack, TABLE)
    )
    return {
        "images": len(cases),
        **{twin: round(fmean(score[twin, attack]), 2) for twin in TWINS},
        "gain": [round(v, 2) for v in gain],
        "gain_pgd_20": [round(v, 2) for v in usual],
        "beyond_pgd_20": round(fmean(score["robust", attack]) - fmean(score["robust", TABLE]), 2),
        "share": round(gain.mean / usual.mean, 3) if usual.mean > 0 else None,
    }


def _scores(measurements: Measurements, twin: str, attack: str) -> dict[Case, float]:
    """PSNR of the FP32 engine behind an 8-bit camera."""
    mine = [m for m in measurements if (m["twin"], _budgeted(m)) == (twin, attack)]
    return {(m["image"], level): value for m in mine for level, value in m["fp32 8-bit"].items()}


def _budgeted(m: dict[str, Any]) -> str:
    """The attack, with its queries where it counts them: another budget is another attack."""
    return f"{m['attack']}, {m['queries']} queries" if "queries" in m else str(m["attack"])


def _worst(scores: Sequence[dict[Case, float]]) -> dict[Case, float]:
    """The lowest, of what all attacks were tried on."""
    return {case: min(each[case] for each in scores) for case in set.intersection(*(set(each) for each in scores))}


def markdown(measurements: Measurements) -> str:
    """Both tables."""
    heads = ["weights", "images", "engine", "camera", "twin", "rain", "clean", *(f"{v:g}/255" for v in LEVELS), "mean"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for row in rows(measurements):
        twin = row.get("twin") or f"robust - {row['gain_over']}"
        cells = [row["weights"], row["data"], row["engine"], row["camera"], twin]
        for head in heads[5:]:
            value = row.get(head, "")
            cells.append(f"{value[0]:+.2f} [{value[1]:.2f}, {value[2]:.2f}]" if isinstance(value, list) else str(value))
        lines.append("| " + " | ".join(cells) + " |")
    checks = masking(measurements)
    if checks:
        lines += ["", "| weights | attack | epsilon | images | plain | robust | gain | gain, PGD-20 | share | beyond |"]
        lines.append("|" + " --- |" * 10)
    for row in checks:
        gains = [f"{row[name][0]:+.2f} [{row[name][1]:.2f}, {row[name][2]:.2f}]" for name in ("gain", "gain_pgd_20")]
        share = "" if row["share"] is None else f"{row['share']:.0%}"
        cells = [row["weights"], row["attack"], row["epsilon"], str(row["images"]), row["plain"], row["robust"]]
        lines.append("| " + " | ".join([*map(str, cells), *gains, share, f"{row['beyond_pgd_20']:+.2f}"]) + " |")
    return "\n".join(lines) + "\n"


def _twins(measurements: Measurements, weights: str, data: str) -> list[str]:
    return _unique(m["twin"] for m in measurements if m["weights"] == weights and m["data"] == data)


def _is(m: dict[str, Any], weights: str, data: str, twin: str, attack: str) -> bool:
    return (m["weights"], m["data"], m["twin"], m["attack"]) == (weights, data, twin, attack)


def _columns(measurements: Measurements, precision: str, camera: str) -> dict[str, dict[str, float]]:
    """By column, the PSNR of each image."""
    columns: dict[str, dict[str, float]] = {}
    for m in measurements:
        scores = m[f"{precision} {camera}"]
        values = {"rain": m["rain"], "clean": m[f"clean {precision}"]}
        values |= {f"{level}/255": value for level, value in scores.items()}
        values["mean"] = fmean(scores.values())
        for name, value in values.items():
            columns.setdefault(name, {})[m["image"]] = value
    return columns


def _means(columns: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: round(fmean(values.values()), 2) for name, values in columns.items()}


def _gains(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]) -> dict[str, list[float]]:
    """Mean of the differences paired by image, with the ends of its 95 % interval; columns with two images or more."""
    found = {}
    for name in before:
        common = sorted(before[name].keys() & after.get(name, {}).keys())
        if name != "rain" and len(common) > 1:
            interval = mean_interval([after[name][image] - before[name][image] for image in common])
            found[name] = [round(v, 2) for v in interval]
    return found


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
