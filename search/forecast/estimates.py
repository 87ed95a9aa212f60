"""The figures of a forecast, each with a range, because the search has not run yet."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

from canopy_search.search.forecast.speed import Network


@dataclass(frozen=True)
class Range:
    """An uncertain figure.

    Attributes:
        low: one search in ten is below.
        likely: the median.
        high: one search in ten is above.
    """

    low: float
    likely: float
    high: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> "Range":
        """Returns the median with the first and ninth decile of the values."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        deciles = quantiles(values, n=10, method="inclusive")
        return cls(deciles[0], deciles[4], deciles[8])

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, low: float, high: float) -> "Range":
        """Returns the range with scaled ends and the same median."""
        return Range(self.low * low, self.likely, self.high * high)

    def at_most(self, limit: float) -> "Range":
        """Returns the range clipped at an upper limit."""
        return Range(min(self.low, limit), min(self.likely, limit), min(self.high, limit))


@dataclass(frozen=True)
class NetworkForecast:
    """One network's part of a search.

    Attributes:
        network: the network.
        epoch_s: seconds of one of its epochs while the other workers train too.
        trained: epochs trained with it.
        checkpoint_bytes: size of one epoch's checkpoint.
    """

    network: Network
    epoch_s: Range
    trained: Range
    checkpoint_bytes: int


@dataclass(frozen=True)
class Forecast:
    """The estimated cost of a search.

    Attributes:
        study, n_trials, workers: as requested.
        device: the training device of the workers.
        threads: threads of each worker on a CPU.
        images: number of usable images.
        is_decoded: whether they are decoded already.
        start_s: seconds until the workers train.
        decode_s: seconds until the images are decoded.
        search_s: seconds from the first trial to the last.
        reported: epochs that trials report.
        trained: epochs that are trained.
        replays: how many searches were replayed.
        sure_within_01: trials of a search → share of the replayed searches whose best trial is
            within .01 of the best setting of its space.
        networks: the cost of each network.
        cache_bytes: size of all decoded images.
        free_bytes: free disk space where they are stored.
        checkpoint_bytes: size of all checkpoints, without a budget.
        budget_bytes: limit on the size of all checkpoints.
        checkpoint_place: where checkpoints are stored, as text.
        worker_bytes: peak memory of a worker, as measured.
        workers_on_device: workers that share the memory of a device.
        memory_free_bytes: free memory of the device.
        sharing: searched setting → the epochs that trials share which differ in it alone, as text;
            empty if trials share none.
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
    sharing: dict[str, str]

    @property
    def total_s(self) -> Range:
        """Total time in seconds."""
        return self.start_s + self.decode_s + self.search_s

    @property
    def memory_needed_bytes(self) -> int:
        """Memory of all workers that share one device."""
        return self.workers_on_device * self.worker_bytes

    @property
    def disk_bytes(self) -> Range:
        """Size of decoded images and checkpoints."""
        cache = Range(self.cache_bytes, self.cache_bytes, self.cache_bytes)
        return cache + self.checkpoint_bytes.at_most(self.budget_bytes)

    def as_json(self) -> dict[str, Any]:
        """Returns the forecast as JSON values; ranges are ``low``, ``likely`` and ``high``."""
        networks = [{**each.network._asdict(), **asdict(each)} for each in self.networks]
        for each in networks:
            del each["network"]
        totals: dict[str, Any] = {
            "total_s": asdict(self.total_s),
            "disk_bytes": asdict(self.disk_bytes),
        }
        totals["memory_bytes"] = self.memory_needed_bytes
        return {**asdict(self), "networks": networks, **totals}
