"""How many deliveries one process may have under way to each endpoint: more while they succeed, fewer as they fail.

So an endpoint that hangs holds a few places for some seconds and one place after that, whatever waits for it.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic

# To an endpoint of which nothing is known, or nothing any more.
FIRST = 16
# An endpoint that nothing was sent to for so many seconds is as any other.
FORGET_SECONDS = 10.0


class Places:
    """The places of one process; `capacity`: of all, `most`: of one endpoint."""

    def __init__(self, capacity: int, most: int) -> None:
        self._free = capacity
        self._most = most
        self._first = min(FIRST, most)
        self._under_way: Counter[str] = Counter()
        # Only what differs from the first size, and when that was learnt.
        self._windows: dict[str, tuple[int, float]] = {}
        self._swept_at = monotonic()

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self._free

    @property
    def first(self) -> int:
        """Places for an endpoint that has nothing under way and of which nothing is known."""
        return self._bounded(self._first)

    def room(self, endpoint: str) -> int:
        """How many more may go to an endpoint: nobody gets more than is left for all others."""
        window = self._window(endpoint)
        # Of one that is known to take what it is sent, as much as is left for all others.
        most = min(window, self._free) if endpoint in self._windows else self._bounded(window)
        return max(0, most - self._under_way[endpoint])

    def _bounded(self, window: int) -> int:
        """Of an endpoint of which nothing is known, a share: a hundred that hang must leave something."""
        return min(window, max(1, self._free // self._first)) if self._free else 0

    def unusual(self) -> dict[str, int]:
        """The room of each endpoint whose room is not `first`."""
        self._sweep()
        return {endpoint: self.room(endpoint) for endpoint in {*self._under_way, *self._windows}}

    def take(self, endpoint: str) -> None:
        """A delivery begins."""
        self._under_way[endpoint] += 1
        self._free -= 1

    def leave(self, endpoint: str, *, is_well: bool) -> None:
        """A delivery has ended; `is_well`: the endpoint is up, whatever it thought of the delivery."""
        self._free += 1
        self._under_way[endpoint] -= 1
        if not self._under_way[endpoint]:
            del self._under_way[endpoint]
        window = self._window(endpoint)
        window = min(window + 1, self._most) if is_well else max(window // 2, 1)
        if window == self._first:
            self._windows.pop(endpoint, None)
        else:
            self._windows[endpoint] = (window, monotonic())

    def _window(self, endpoint: str) -> int:
        known = self._windows.get(endpoint)
        return self._first if known is None else known[0]

    def _sweep(self) -> None:
        now = monotonic()
        if now - self._swept_at < 1:
            return
        self._swept_at = now
        for endpoint, (_, learnt_at) in list(self._windows.items()):
            if now - learnt_at > FORGET_SECONDS and endpoint not in self._under_way:
                del self._windows[endpoint]
