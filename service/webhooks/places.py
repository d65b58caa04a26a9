"""How many deliveries one process may have under way to each endpoint: more while they succeed, fewer as they fail.

So an endpoint that hangs holds a few places for some seconds and one place after that, whatever waits for it.
"""

from __future__ import annotations

from collections import Counter

# To an endpoint of which nothing is known.
FIRST = 16


class Places:
    """The places of one process; `capacity`: of all, `most`: of one endpoint."""

    def __init__(self, capacity: int, most: int) -> None:
        self._free = capacity
        self._most = most
        self._under_way: Counter[str] = Counter()
        # Only what differs from the first size, so that it does not grow with every endpoint there ever was.
        self._windows: dict[str, int] = {}

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return self._free

    @property
    def first(self) -> int:
        """Places for an endpoint that has nothing under way and never failed."""
        return min(FIRST, self._most, self._free)

    def room(self, endpoint: str) -> int:
        """How many more may go to an endpoint: nobody gets more than is left for all others."""
        window = min(self._windows.get(endpoint, min(FIRST, self._most)), self._free)
        return max(0, window - self._under_way[endpoint])

    def unusual(self) -> dict[str, int]:
        """The room of each endpoint whose room is not `first`."""
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
        window = self._windows.get(endpoint, FIRST)
        window = min(window + 1, self._most) if is_well else max(window // 2, 1)
        is_idle = endpoint not in self._under_way
        if window == FIRST or (is_idle and window > FIRST):
            self._windows.pop(endpoint, None)
        else:
            self._windows[endpoint] = window
