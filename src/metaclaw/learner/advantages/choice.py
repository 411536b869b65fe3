"""Which strategy a setting names.

Owns the table; refuses to know how any of them reckons. Invariant: every name that
``rl.update.advantage`` allows is here.
"""

from __future__ import annotations

from collections.abc import Mapping

from metaclaw.config import AdvantageName
from metaclaw.learner.advantages.batch_zscore import batch_zscore
from metaclaw.learner.advantages.ema_baseline import ema_baseline
from metaclaw.learner.advantages.leave_one_out import leave_one_out
from metaclaw.learner.advantages.strategy import Strategy

STRATEGIES: Mapping[AdvantageName, Strategy] = {
    "ema_baseline": ema_baseline,
    "leave_one_out": leave_one_out,
    "group": ema_baseline,  # of what was recorded; what ``rollouts`` draws is held against its group
    "batch_zscore": batch_zscore,
}
