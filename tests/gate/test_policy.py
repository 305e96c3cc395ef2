"""Policies: the shipped one says what the design fixed, and a wrong one is told where and what is right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from deploy_robust.app.planning import planner_of
from deploy_robust.errors import PolicyError
from deploy_robust.gate.policy import Policy, Scope, load_policy
from deploy_robust.gate.quantities import DIVERGENCE, QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy_robust.gate.records import Measurement

LINE = '[[requirement]]\nname = "gain"\nquantity = "clean-gain"\nat_least = 3\n'
HEAD = "schema = 1\n[threat]\nlevels = [1, 2]\n"


def test_the_default_policy_is_the_one_that_was_fixed() -> None:
    policy = load_policy("default")
    assert policy.levels == (1, 2, 4, 8)
    assert policy.minimum_scenes == 24
    guard = {"local-credit": Scope((2,), 6)}  # without gradients, on the engine itself
    assert list(policy.attacks) == [
        "pgd-lmse",
        "uniform",
        "corners",
        "local-credit",
        "divergence",
        "divergence-queries",
    ]
    assert policy.attacks["local-credit"] == {"queries": 200}
    assert policy.scopes == guard | {name: Scope((8,), 3) for name in DIVERGENCE}
    assert policy.parity_pairs == 8
    assert policy.parity == {
        "fp32": {"fidelity": 90, "conversion": 90, "conversion_max_abs": 1e-4},
        "fp16": {"fidelity": 50, "conversion": 50},
        "bf16": {"fidelity": 50, "conversion": 50},
        "int8": {"fidelity": 25, "conversion": 30},
        "fp8": {"fidelity": 25, "conversion": 30},  # added with the precision itself; nothing else was touched
    }
    apart = {
        r.name: (r.quantity, r.statistic, r.levels, r.gates) for r in policy.requirements if r.by_precision and r.levels
    }
    assert apart == {
        "attacked-conversion": ("attacked-conversion", "min", (1, 2, 4, 8), True),
        "attacked-fidelity": ("attacked-fidelity", "min", (1, 2, 4, 8), True),
    }
    bounds = {"fp32": (90, None), "fp16": (50, None), "bf16": (45, None)}  # int8 and fp8 are reported
    assert all(r.by_precision == bounds and r.minimum_pairs == 8 for r in policy.requirements if r.name in apart)
    plain = [r for r in policy.requirements if not r.by_precision]
    guards = {
        r.name: (r.quantity, r.statistic, r.by_precision, r.gates)
        for r in policy.requirements
        if r.by_precision and not r.levels
    }
    rows = {"fp32": 90, "fp16": 60, "bf16": 60, "int8": 50, "fp8": 50}
    again = {"fp32": 90, "fp16": 70, "bf16": 70, "int8": 60, "fp8": 60}
    assert guards == {
        "independent-rows": ("independent-rows", "min", {name: (db, None) for name, db in rows.items()}, True),
        "repeatable": ("repeatable", "min", {name: (db, None) for name, db in again.items()}, False),
    }
    lines = {r.name: (r.quantity, r.statistic, r.levels, r.at_least, r.at_most, r.gates) for r in plain}
    assert lines == {
        "engine-defect": ("defects", "max", (), None, 0, True),
        "clean-gain": ("clean-gain", "mean", (), 3, None, True),
        "do-no-harm": ("attacked-gain", "mean", (1, 2, 4), 0, None, True),
        "collapse": ("drop", "max", (2,), None, 10, True),
        "transfer-gap": ("transfer-gap", "mean", (1, 2, 4, 8), -1.5, 1.5, True),
        "attack-strength": ("attack-lead", "mean", (1, 2, 4), 0, None, False),
        "masked-gradients": ("search-lead", "mean", (2,), None, 2, False),
    }


def test_parity_is_asked_of_the_references_that_exist() -> None:
    policy = load_policy("default")
    lines = policy.for_engine("fp32", {"conversion"})
    assert [(r.quantity, r.at_least, r.at_most) for r in lines if r.name == "parity"] == [
        ("conversion", 90, None),
        ("conversion-max-abs", None, 1e-4),
    ]
    assert not [r for r in policy.for_engine("int8", ()) if r.name == "parity"]


def test_an_engine_of_unknown_precision_needs_bounds() -> None:
    with pytest.raises(PolicyError, match=r"no parity bounds for a fp4 engine.*parity\.fp4"):
        load_policy("default").for_engine("fp4", {"conversion"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            HEAD + "[attacks.corners]\nlevels = [4]\n" + LINE,
            "line 4: attack corners asks for epsilon 4: not in",
        ),
        (HEAD + "[attacks.corners]\npairs = 0\n" + LINE, "pairs must be at least 1"),
        (
            HEAD + LINE.replace("at_least = 3", "at_least = { fp31 = 3 }"),
            "unknown key 'fp31': did you mean 'fp32'",
        ),
        (
            HEAD + LINE.replace("at_least = 3", "at_least = { fp32 = 3 }\nat_most = 4"),
            "both bounds by precision, or neither",
        ),
        ("schema = [\n", "is not TOML"),
        ("schema = 2\n" + LINE, "line 1: schema must be 1"),
        (HEAD + "minimum_scene = 3\n", "line 4: unknown key 'minimum_scene'"),
        (HEAD, "needs at least one"),
        (HEAD + LINE.replace("quantity", "quantiti"), "line 6: unknown key 'quantiti': did you mean 'quantity'"),
        (
            HEAD + LINE.replace("clean-gain", "clean-gian"),
            "line 6: unknown quantity 'clean-gian': did you mean 'clean-gain'",
        ),
        (
            HEAD + LINE.replace("at_least = 3", 'at_least = "3"'),
            "line 7: requirement[0].at_least must be a number or a table of keys (got '3')",
        ),
        (HEAD + LINE.replace("at_least = 3\n", ""), "needs at_least or at_most"),
        (HEAD + LINE + "levels = [1]\n", "takes no levels"),
        (HEAD + LINE.replace("clean-gain", "drop"), "needs levels"),
        (HEAD + LINE.replace("clean-gain", "drop") + "levels = [4]\n", "epsilon 4: not in threat.levels"),
        (HEAD.replace("2]", "2.5]") + LINE, "line 3: epsilon 2.5/255 is fractional"),
        (HEAD.replace("2]", "300]") + LINE, "line 3: levels must be"),
        (HEAD + LINE + "confidence = 1.5\n", "confidence must lie between 0 and 1"),
        (HEAD + LINE + "gates = 1\n", "gates must be a boolean"),
        (HEAD + "camera_bits = 10\n" + LINE, "line 4: camera_bits must be 8"),
        (HEAD + "[parity]\nint7 = { conversion = 30 }\n" + LINE, "line 5: unknown key 'int7': did you mean 'int8'"),
        (HEAD + "[attacks]\nuniform = 3\n" + LINE, "attacks.uniform must be a table"),
        (HEAD + LINE + LINE, "line 9: two requirements are named 'gain'"),
        (HEAD + LINE.replace('"gain"', '"parity"'), "line 5: a requirement named parity"),
        (HEAD.replace("2]", "2, 2]") + LINE, "line 3: levels holds 2 twice"),
        (HEAD + LINE.replace("= 3", "= nan"), "line 7: requirement[0].at_least must be a finite number (got nan)"),
        (HEAD + LINE.replace("= 3", "= inf"), "line 7: requirement[0].at_least must be a finite number (got inf)"),
        (HEAD + LINE.replace("= 3", "= 1" + "0" * 400), "line 7: requirement[0].at_least must be a number below 2^63"),
        (HEAD + LINE.replace('"clean-gain"', "5"), "line 6: requirement[0].quantity must be a string (got 5)"),
        (HEAD + LINE.replace('"clean-gain"', "1979-05-27"), "line 6: requirement[0].quantity must be text or a number"),
        (HEAD + f"[attacks.pgd]\nmask = {'[' * 50_000}\n" + LINE, "nested deeper"),
        ("schema = 1\n" + HEAD + LINE, "is not TOML"),
        ("schema = true\n" + LINE, "line 1: schema must be 1 (got True)"),
    ],
)
def test_a_wrong_policy_is_told_where_and_what_is_right(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_policy_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="shipped are default, unpaired"):
        load_policy(tmp_path / "none.toml")


def test_the_unpaired_policy_needs_no_ground_truth() -> None:
    assert not [r.name for r in load_policy("unpaired").requirements if QUANTITIES[r.quantity].needs_truth]


class Nothing:
    """A history without measurements."""

    latest = ()

    def everything(self) -> Iterator[Measurement]:
        return iter(())


SCOPED = HEAD + "[attacks.uniform]\n[attacks.corners]\nlevels = [2]\npairs = 3\n" + LINE


def test_an_attack_may_run_on_some_pairs_at_some_epsilons(tmp_path: Path) -> None:
    (tmp_path / "scoped.toml").write_text(SCOPED)
    policy = load_policy(tmp_path / "scoped.toml")
    assert policy.attacks == {"uniform": {}, "corners": {}}
    ids = [f"p{i}" for i in range(9)]
    planner = planner_of(policy, ["uniform", "corners"], ids, (), 2)
    cases = [case for batch in planner.batches(Nothing()) for case in batch]
    assert len(cases) == len(set(cases)) == planner.size == 9 * 3 + 3
    assert [(c.pair, c.level) for c in cases if c.attack == "corners"] == [("p0", 2), ("p3", 2), ("p6", 2)]
    assert Policy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


def test_a_bound_may_depend_on_the_precision(tmp_path: Path) -> None:
    line = '[[requirement]]\nname = "gain"\nquantity = "clean-gain"\nat_least = { fp32 = 3, int8 = 2 }\n'
    (tmp_path / "p.toml").write_text(HEAD + line)
    policy = load_policy(tmp_path / "p.toml")
    bounds = {name: [r.at_least for r in policy.for_engine(name, ())] for name in ("fp32", "int8", "fp16")}
    assert bounds == {"fp32": [3], "int8": [2], "fp16": []}
    assert (policy.unbounded("fp16"), policy.unbounded("fp32")) == (("gain",), ())
    assert Policy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy
