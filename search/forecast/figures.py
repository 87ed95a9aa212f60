"""The figures of a forecast: each with a range, because a search is not known before it is made."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

from canopy_search.search.forecast.speed import Network


@dataclass(frozen=True)
class Range:
    """A figure that is not known exactly.

    Attributes:
        low: one in ten comes out lower.
        likely: the median.
        high: one in ten comes out higher.
    """

    low: float
    likely: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Range":
        """Returns the median, and what a tenth of the values lie below and above."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        tenths = quantiles(values, n=10, method="inclusive")
        return cls(tenths[0], tenths[4], tenths[8])

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, low: float, high: float) -> "Range":
        """Returns the range with its ends further apart, the median as it was."""
        return Range(self.low * low, self.likely, self.high * high)

    def at_most(self, limit: float) -> "Range":
        """Returns the range with nothing above a limit."""
        return Range(min(self.low, limit), min(self.likely, limit), min(self.high, limit))


@dataclass(frozen=True)
class NetworkForecast:
    """One network's part of a search.

    Attributes:
        network: which one.
        epoch_s: seconds of one of its epochs, while the other workers train too.
        trained: epochs that are trained with it.
        checkpoint_bytes: of one epoch.
    """

    network: Network
    epoch_s: Range
    trained: Range
    checkpoint_bytes: int


@dataclass(frozen=True)
class Forecast:
    """What a search will take.

    Attributes:
        study, n_trials, workers: as it was asked for.
        device: what the workers train on.
        threads: of each worker on a CPU.
        images: that can be used.
        is_decoded: whether they are decoded already.
        start_s: until the workers train, in seconds.
        decode_s: until the images are decoded, in seconds.
        search_s: from the first trial to the last, in seconds.
        reported: epochs that trials report.
        trained: epochs that are trained.
        replays: how many searches were replayed.
        sure_within_01: trials of a search → the share of the replayed searches whose answer ends
            within .01 of the best setting of its space.
        networks: what each network takes.
        cache_bytes: of all decoded images.
        free_bytes: free where they lie.
        checkpoint_bytes: of all checkpoints, without a budget.
        budget_bytes: what they may take.
        checkpoint_place: where they lie, for people.
        worker_bytes: largest memory of a worker, as measured.
        workers_on_device: workers that share the memory of a device.
        memory_free_bytes: free on the device.
    """

    study: str
    n_trials: int
    workers: int
    device: str
    threads: int
    images: int
    is_decoded: bool
    start_s: Range
    decode_s: Range
    search_s: Range
    reported: Range
    trained: Range
    replays: int
    sure_within_01: dict[str, float]
    networks: tuple[NetworkForecast, ...]
    cache_bytes: int
    free_bytes: int
    checkpoint_bytes: Range
    budget_bytes: int
    checkpoint_place: str
    worker_bytes: int
    workers_on_device: int
    memory_free_bytes: int

    @property
    def total_s(self) -> Range:
        """Everything, in seconds."""
        return self.start_s + self.decode_s + self.search_s

    @property
    def memory_needed_bytes(self) -> int:
        """Of all workers that share one device's memory."""
        return self.workers_on_device * self.worker_bytes

    @property
    def disk_bytes(self) -> Range:
        """Decoded images and checkpoints."""
        cache = Range(self.cache_bytes, self.cache_bytes, self.cache_bytes)
        return cache + self.checkpoint_bytes.at_most(self.budget_bytes)

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON values; ranges are ``low``, ``likely`` and ``high``."""
        networks = [{**each.network._asdict(), **asdict(each)} for each in self.networks]
        for each in networks:
            del each["network"]
        totals: dict[str, Any] = {
            "total_s": asdict(self.total_s),
            "disk_bytes": asdict(self.disk_bytes),
        }
        totals["memory_bytes"] = self.memory_needed_bytes
        return {**asdict(self), "networks": networks, **totals}
