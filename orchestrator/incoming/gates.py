"""Debounce and throttle: when the next run may start for one key of one subscription. Pure; times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.subscriptions import MOST_HELD, Subscription, Take


@dataclass
class StartGate:
    """One key of one subscription, as its row has it."""

    held: int = 0
    opened_at: float | None = None
    due_at: float | None = None
    shut_until: float | None = None

    def pass_on(self, said: Subscription, now: float) -> str:
        """What becomes of an event that comes now: `started`, `held` or `dropped`."""
        if said.debounce is not None:
            return self._hold(now + said.debounce.quiet, said, now)
        if said.throttle is None:
            return "started"
        if self.held == 0 and (self.shut_until is None or self.shut_until <= now):
            self.shut_until = now + said.throttle
            return "started"
        if said.take is Take.FIRST:
            return "dropped"
        return self._hold(now, said, now)

    def _hold(self, until: float, said: Subscription, now: float) -> str:
        self.held += 1
        self.opened_at = now if self.opened_at is None else self.opened_at
        if said.debounce is not None:
            until = min(until, self.opened_at + said.debounce.longest)
            if self.held >= MOST_HELD:
                until = now  # what one run takes is complete
        self.due_at = max(until, self.shut_until or until)
        return "held"
