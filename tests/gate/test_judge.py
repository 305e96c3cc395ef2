"""The judge on measurements made by hand: what passes, what fails, what stays open."""

from __future__ import annotations

import math

import pytest

from deploy_robust.gate.judge import Terms, judge
from deploy_robust.gate.policy import load_policy
from deploy_robust.gate.records import CLEAN, INPUT, ROWS, Case, Defect, Measurement, Requirement, Status
from deploy_robust.gate.table import Known

ATTACKS = ("pgd-lmse", "uniform", "corners", "local-credit")
KNOWN = Known({"pgd-lmse": "gradients", "local-credit": "queries"}, ("local-credit",))
LEVELS = (1.0, 2.0, 4.0, 8.0)


def measurements(
    *,
    pairs: int = 24,
    rain: float = 18.0,
    clean: float = 27.0,
    attacked: float = 22.0,
    gap: float = 0.0,
    lead: float = 6.0,
    conversion: float = 38.0,
    rows: float = 70.0,
    again: float = math.inf,
    scenes: int | None = None,
    search: float = -1.0,
    dead: bool = False,
) -> list[Measurement]:
    """A run of the default policy whose numbers vary a little from pair to pair."""
    found = []
    for i in range(pairs):
        wobble = 0.2 * math.sin(i)
        scene = f"scene-{i % (scenes or pairs)}"

        def add(role: str, case: Case, delivery: str = "8bit", *, scene: str = scene, **values: float) -> None:
            found.append(Measurement(case, scene, role, delivery, values))  # type: ignore[arg-type]

        case = Case(f"pair-{i}")
        add(INPUT, case, psnr=rain + wobble)
        add("engine", case, psnr=clean + wobble, conversion_db=conversion, conversion_max_abs=0.1, repeat_db=again)
        add("engine", Case(f"pair-{i}", ROWS), batch_db=rows)
        add("source", case, psnr=clean + wobble)
        for attack in ATTACKS:
            for level in LEVELS:
                if attack == "local-credit" and (level != 2 or i % (pairs // min(pairs, 6))):
                    continue
                case = Case(f"pair-{i}", attack, level)
                lost = {"pgd-lmse": 0.0, "local-credit": search * (1 + wobble)}.get(attack, -3.0)
                psnr = attacked + wobble - lost
                drift = 20.0 + wobble + (0.0 if attack == "pgd-lmse" else lead)
                add("engine", case, psnr=psnr + gap, drift=drift)
                facts = {"dead_start": float(dead)} if attack == "pgd-lmse" else {}
                add("source", case, psnr=psnr, drift=drift, **facts)
    return found


def verdict(found: list[Measurement], **terms: object) -> tuple[Status, dict[str, set[Status]]]:
    policy = load_policy("default")
    requirements = policy.for_engine("int8", {"conversion"})
    result = judge(requirements, found, Terms(ATTACKS, policy.minimum_scenes, known=KNOWN, **terms))  # type: ignore[arg-type]
    names: dict[str, set[Status]] = {}
    for outcome in result.outcomes:
        names.setdefault(outcome.requirement.name, set()).add(outcome.status)
    return result.status, names


def test_a_sound_engine_passes() -> None:
    status, names = verdict(measurements())
    assert status is Status.PASS
    assert set(names) == {
        "parity",
        "independent-rows",
        "repeatable",
        "engine-defect",
        "clean-gain",
        "do-no-harm",
        "collapse",
        "transfer-gap",
        "attack-strength",
        "masked-gradients",
    }


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"attacked": 17.0}, "do-no-harm"),
        ({"clean": 20.0, "attacked": 19.5}, "clean-gain"),
        ({"clean": 33.0}, "collapse"),
        ({"gap": 2.0}, "transfer-gap"),
        ({"gap": -2.0}, "transfer-gap"),
        ({"conversion": 29.9}, "parity"),
        ({"rows": 49.0}, "independent-rows"),
    ],
)
def test_each_requirement_can_fail_the_run(changed: dict[str, float], broken: str) -> None:
    status, names = verdict(measurements(**changed))  # type: ignore[arg-type]
    assert status is Status.FAIL
    assert [name for name, found in names.items() if Status.FAIL in found] == [broken]


def test_an_attack_that_does_not_beat_noise_leaves_the_run_open_and_never_fails_it() -> None:
    status, names = verdict(measurements(lead=-1.0))
    assert status is Status.INCONCLUSIVE
    assert names["attack-strength"] == {Status.INCONCLUSIVE}


def test_a_search_that_beats_the_gradients_keeps_the_run_from_passing_and_counts_as_an_attack() -> None:
    status, names = verdict(measurements(search=3.0))
    assert status is Status.INCONCLUSIVE
    assert [name for name, found in names.items() if found != {Status.PASS}] == ["masked-gradients"]
    assert verdict(measurements(search=1.2))[0] is Status.PASS
    # what it has found counts for an image like what any other attack has found
    status, names = verdict(measurements(search=14.0))
    assert status is Status.FAIL
    assert Status.FAIL in names["collapse"]


def test_dead_gradients_on_every_image_keep_the_run_from_passing() -> None:
    status, names = verdict(measurements(dead=True))
    assert status is Status.INCONCLUSIVE
    assert names["masked-gradients"] == {Status.INCONCLUSIVE}


def test_a_run_without_the_guard_cannot_pass() -> None:
    found = [m for m in measurements() if m.case.attack != "local-credit"]
    assert verdict(found)[0] is Status.INCONCLUSIVE
    _, names = verdict(found)
    assert names["masked-gradients"] == {Status.INCONCLUSIVE}
    assert names["do-no-harm"] == {Status.PASS}, "an attack on some pairs is not missed on the others"


def test_an_engine_that_answers_at_random_is_not_judged() -> None:
    status, names = verdict(measurements(again=48.0))
    assert status is Status.INCONCLUSIVE
    assert names["repeatable"] == {Status.INCONCLUSIVE}


def test_too_few_scenes_cannot_pass_and_can_fail() -> None:
    assert verdict(measurements(pairs=23))[0] is Status.INCONCLUSIVE
    assert verdict(measurements(pairs=4, attacked=10.0))[0] is Status.FAIL
    # many crops of few scenes are few draws
    assert verdict(measurements(pairs=48, scenes=6))[0] is Status.INCONCLUSIVE


def test_a_cap_keeps_the_run_from_passing() -> None:
    assert verdict(measurements(), caps=("no source",))[0] is Status.INCONCLUSIVE


def test_parity_on_fewer_than_eight_pairs_cannot_pass() -> None:
    _, names = verdict(measurements(pairs=7))
    assert names["parity"] == {Status.INCONCLUSIVE}


def test_one_defect_fails_the_run_and_one_of_the_source_does_not() -> None:
    found = measurements()
    bad = Measurement(Case("pair-3", "uniform", 2.0), "scene-3", "engine", "8bit", defect=Defect("nan", "all of it"))
    status, names = verdict([*found, bad])
    assert status is Status.FAIL
    assert names["engine-defect"] == {Status.FAIL}
    other = Measurement(Case("pair-3", "uniform", 2.0), "scene-3", "source", "8bit", defect=Defect("nan", "all of it"))
    assert verdict([*found, other])[1]["engine-defect"] == {Status.PASS}


def test_each_image_counts_at_its_worst_attack() -> None:
    found = [
        Measurement(m.case, m.scene, m.role, m.delivery, {**m.values, "psnr": 11.0})
        if m.case == Case("pair-5", "corners", 2.0) and m.role == "engine"
        else m
        for m in measurements()
    ]
    requirement = Requirement("collapse", "drop", statistic="max", levels=(2.0,), at_most=10.0)
    (outcome,) = judge([requirement], found, Terms(ATTACKS, known=KNOWN)).outcomes
    assert outcome.status is Status.FAIL
    assert outcome.worst == Case("pair-5", "corners", 2.0)
    assert outcome.value == pytest.approx(27.0 + 0.2 * math.sin(5) - 11.0)


def test_pairs_without_all_attacks_do_not_count() -> None:
    found = [m for m in measurements() if not (m.case.attack == "pgd-lmse" and m.case.pair == "pair-0")]
    requirement = Requirement("do-no-harm", "attacked-gain", levels=(1.0,), at_least=0.0)
    (outcome,) = judge([requirement], found, Terms(ATTACKS, known=KNOWN)).outcomes
    assert outcome.pairs == 23


def test_a_mean_is_over_scenes_and_not_over_pairs() -> None:
    def gain(pair: str, scene: str, value: float) -> list[Measurement]:
        case = Case(pair, CLEAN)
        return [
            Measurement(case, scene, INPUT, "8bit", {"psnr": 10.0}),
            Measurement(case, scene, "engine", "8bit", {"psnr": 10.0 + value}),
        ]

    found = [m for i in range(9) for m in gain(f"a{i}", "a", 1.0)] + gain("b", "b", 5.0)
    (outcome,) = judge([Requirement("gain", "clean-gain", at_least=0.0)], found, Terms(())).outcomes
    assert outcome.value == pytest.approx(3.0)
    assert (outcome.pairs, outcome.scenes) == (10, 2)


def test_identical_outputs_count_as_a_hundred_decibels() -> None:
    found = measurements()
    found = [
        Measurement(m.case, m.scene, m.role, m.delivery, {**m.values, "psnr": math.inf}) if m.role == "engine" else m
        for m in found
    ]
    requirement = Requirement("collapse", "drop", statistic="max", levels=(2.0,), at_most=10.0)
    (outcome,) = judge([requirement], found, Terms(ATTACKS, known=KNOWN)).outcomes
    assert outcome.value == 0.0


def test_nothing_measured_decides_nothing() -> None:
    assert verdict([])[0] is Status.INCONCLUSIVE
