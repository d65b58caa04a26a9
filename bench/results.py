"""Everything a run found."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.audience import Audience
from bench.baseline import BareRound
from bench.options import Options
from bench.rounds import LatencyRound, SaturationRound, WorkerRound
from bench.sizes import SizeRound
from bench.surroundings import Surroundings
from bench.webhooks import Webhooks


@dataclass
class Results:
    """Filled round by round; what the time did not suffice for is missing."""

    options: Options
    surroundings: Surroundings
    durability: dict[str, str] = field(default_factory=dict)
    worker: list[WorkerRound] = field(default_factory=list)
    bare: list[BareRound] = field(default_factory=list)
    saturation: list[SaturationRound] = field(default_factory=list)
    latency: LatencyRound | None = None
    sizes: list[SizeRound] = field(default_factory=list)
    audiences: list[Audience] = field(default_factory=list)
    webhooks: Webhooks | None = None
    seconds: float = 0.0
