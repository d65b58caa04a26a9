"""Times that came while nobody looked: which of them are run after all."""

from __future__ import annotations

from datetime import datetime, timedelta

from service.schedules.times import Timing, newest_times

SKIP = "skip"
ONCE = "once"
ALL = "all"
POLICIES = (SKIP, ONCE, ALL)

# Later than this, a time is missed.
LATE = timedelta(seconds=60)
# Or later than this, where the next one has come too: a tick that is a little late costs no run.
OVERTAKEN = timedelta(seconds=3)
# Times come a second apart at most, so no more of them than this are on time.
MOST_ON_TIME = 4


def due_runs(timing: Timing, first: datetime, now: datetime, *, policy: str, limit: int) -> list[datetime]:
    """Of the times from `first` until now, those that are to be run, in order.

    Every time that is not missed; of the missed ones none (skip), the newest in place of them all unless a later time
    is run anyway (once), or the newest `limit` (all).
    """
    due = newest_times(timing, first, now, limit + MOST_ON_TIME)
    on_time = [each for each in due if now - each <= (LATE if each == due[-1] else OVERTAKEN)]
    missed = due[: len(due) - len(on_time)]
    if policy == SKIP:
        return on_time
    if policy == ONCE:
        return on_time or missed[-1:]
    return missed[-limit:] + on_time
