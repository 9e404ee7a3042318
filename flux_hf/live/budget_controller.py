"""Which token budget a watch can afford now."""

import statistics
from collections import deque

SHARE = 0.8
"""Of the latency that an answer at a larger budget may be expected to take, so that the next one is not too late."""

PAUSE, LONGEST_PAUSE = 5.0, 120.0
"""Seconds for which a larger budget has to look affordable; doubled each time that one was not."""


class BudgetController:
    """Takes the largest budget whose answers are there in time.

    How long an answer takes at each budget was measured before. Now it takes `load` times as long: the median of the
    last three answers, so that one that was slow for itself changes nothing. Where an answer at the present budget is
    expected after the latency, the largest budget follows whose answer is expected within `SHARE` of it, else the
    smallest. The next larger one follows when its answer was expected within that share for `PAUSE` seconds. One that
    was left again within `LONGEST_PAUSE` is tried after twice the pause, so that budgets do not go up and down.

    Args:
        seconds: budget -> seconds from a picture to the answer, where nothing else is at work.
        latency: seconds that an answer may take.
    """

    def __init__(self, seconds: dict[int, float], latency: float):
        self._seconds, self._latency = dict(sorted(seconds.items())), latency
        self._loads = deque([1.0] * 3, maxlen=3)
        self._affordable_since = self._raised = None
        self._pause = PAUSE
        self.token_budget = self._largest_affordable()

    def expected(self, token_budget: int) -> float:
        """Seconds that an answer at a budget would take now."""
        return statistics.median(self._loads) * self._seconds[token_budget]

    def observe(self, delay: float, now: float) -> None:
        """Take note of how long the answer at `token_budget` took, and choose the one for the next."""
        self._loads.append(delay / self._seconds[self.token_budget])
        if self.expected(self.token_budget) > self._latency:
            self._lower(now)
            return
        higher = next((budget for budget in self._seconds if budget > self.token_budget), None)
        if higher is None or self.expected(higher) > SHARE * self._latency:
            self._affordable_since = None
        elif self._affordable_since is None:
            self._affordable_since = now
        elif now - self._affordable_since >= self._pause:
            self.token_budget, self._raised, self._affordable_since = higher, now, None

    def _lower(self, now: float) -> None:
        self._affordable_since = None
        lower = min(self._largest_affordable(), self.token_budget)
        if lower == self.token_budget:
            return
        failed = self._raised is not None and now - self._raised < LONGEST_PAUSE
        self._pause = min(2 * self._pause, LONGEST_PAUSE) if failed else PAUSE
        self.token_budget = lower

    def _largest_affordable(self) -> int:
        affordable = [b for b in self._seconds if self.expected(b) <= SHARE * self._latency]
        return max(affordable, default=min(self._seconds))
