"""A forecast on a terminal: the cost of the search, and its assumptions."""

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from canopy_search.dashboards.formatting.values import counted, duration_text
from canopy_search.search.forecast.estimates import Forecast, NetworkForecast, Range
from canopy_search.training.sizes import size_text


def forecast_screen(forecast: Forecast) -> Group:
    """Returns two tables: the cost of the search, and its networks."""
    return Group(_totals(forecast), _networks(forecast))


def assumption_lines(forecast: Forecast) -> list[str]:
    """Returns one line for each assumption behind the figures."""
    workers = _workers_text(forecast)
    lines = [
        "Low and high: one search in ten is expected to end below, one above.",
        f"Epochs: training steps and validation were measured here just now, with {workers}; "
        "other load on this machine makes them slower.",
        f"Trials: the search was replayed {forecast.replays} times with its own sampler, pruner "
        "and stage tree, on learning curves drawn at random over this space, assuming that no "
        "epoch is reused, no trial fails, and none ends by max_trial_s or stop_when.",
        f"Answer: {_sure_text(forecast)} of the replayed searches ended within .01 of the best "
        "setting of their space; fewer do if slow starters end best (docs/stages.md).",
        "Decoding: already done."
        if forecast.is_decoded
        else "Decoding: some images were read and decoded; all images of a slow or remote disk may "
        "take longer.",
        f"Disk: {size_text(forecast.free_bytes)} are free in the state folder; checkpoints in "
        f"{forecast.checkpoint_place} may take {size_text(forecast.budget_bytes)} "
        "(stages.budget_gib), and the least useful are evicted first.",
        f"Memory: the peak of a measuring process was {size_text(forecast.worker_bytes)}; "
        f"{size_text(forecast.memory_free_bytes)} are free on {forecast.device}.",
    ]
    if forecast.sharing:
        each = ", ".join(f"{name} {shared}" for name, shared in forecast.sharing.items())
        lines.append(
            f"Sharing: two trials that differ in one setting share of their epochs: {each}."
        )
    needed = forecast.disk_bytes.likely - (forecast.cache_bytes if forecast.is_decoded else 0)
    if needed > forecast.free_bytes:
        lines.append("There is not enough disk; lower data.image_px or set stages.budget_gib.")
    if forecast.memory_needed_bytes > forecast.memory_free_bytes:
        lines.append("There is not enough memory for this many workers; try fewer --workers.")
    return lines


def _sure_text(forecast: Forecast) -> str:
    """Returns ``70 % with 40 trials and 85 % with 80``."""
    return " and ".join(
        f"{share:.0%} with {n} trials".replace("%", " %")
        for n, share in forecast.sure_within_01.items()
    )


def _totals(forecast: Forecast) -> Table:
    trials = counted(forecast.n_trials, "trial")
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 2, 0, 0),
        title=Text(f"Study {forecast.study}: {trials}, {_workers_text(forecast)}", style="bold"),
        title_justify="left",
    )
    table.add_column("")
    for name in ("low", "likely", "high"):
        table.add_column(name, justify="right", no_wrap=True)
    durations = {
        "time": forecast.total_s,
        "  to start": forecast.start_s,
        f"  to decode {forecast.images:,} images": forecast.decode_s,
        "  for the trials": forecast.search_s,
    }
    for name, seconds in durations.items():
        table.add_row(name, *(duration_text(each) for each in _bounds(seconds)))
    for name, count in {
        "epochs reported": forecast.reported,
        "epochs trained": forecast.trained,
    }.items():
        table.add_row(name, *(f"{each:,.0f}" for each in _bounds(count)))
    cache = Range(forecast.cache_bytes, forecast.cache_bytes, forecast.cache_bytes)
    memory = forecast.memory_needed_bytes
    for name, sizes in {
        "disk": forecast.disk_bytes,
        "  decoded images": cache,
        "  checkpoints": forecast.checkpoint_bytes.at_most(forecast.budget_bytes),
        "memory": Range(memory, memory, memory),
    }.items():
        table.add_row(name, *(size_text(int(each)) for each in _bounds(sizes)))
    return table


def _networks(forecast: Forecast) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    table.add_column("network", no_wrap=True)
    for name in ("batch", "s an epoch", "epochs trained", "MiB a checkpoint"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in forecast.networks:
        table.add_row(*_network_cells(each))
    return table


def _network_cells(each: NetworkForecast) -> list[str]:
    digits = 2 if each.epoch_s.likely < 10 else 0
    low_s, likely_s, high_s = (f"{value:,.{digits}f}" for value in _bounds(each.epoch_s))
    low, likely, high = (f"{value:.0f}" for value in _bounds(each.trained))
    return [
        each.network.backbone,
        str(each.network.batch_size),
        f"{likely_s} ({low_s} to {high_s})",
        f"{likely} ({low} to {high})",
        f"{each.checkpoint_bytes / 2**20:,.1f}",
    ]


def _workers_text(forecast: Forecast) -> str:
    workers = "one worker" if forecast.workers == 1 else f"{forecast.workers} workers"
    if forecast.device != "cpu":
        return f"{workers} on {forecast.device}"
    threads = "one thread" if forecast.threads == 1 else f"{forecast.threads} threads"
    return f"{workers} of {threads} on the CPU"


def _bounds(values: Range) -> tuple[float, float, float]:
    return values.low, values.likely, values.high
