"""The line that tells where a test stands."""

from __future__ import annotations

import math

from deploy_robust.app.screen import Standings
from deploy_robust.cli.screen import _standing
from deploy_robust.gate.watch import Standing


def test_it_says_wealth_interval_and_speed() -> None:
    test = Standing("rate", 2.0, 9, 100, math.log(4), math.log(0.5), math.log(20), 0.0, 0.31, None)
    said = _standing(Standings((test,), 900, 123.4), test)
    assert said == "at 2/255: wealth 4 of 20 for PASS, 0.5 for FAIL, interval 0 to 0.31, 123 queries/s"


def test_a_set_bets_on_no_fail_and_certainty_is_no_overflow() -> None:
    test = Standing("rate", None, 9, 9, math.inf, None, math.log(20), 0.0, 0.0, True)
    assert "FAIL" not in _standing(Standings((test,), 0, None), test)
