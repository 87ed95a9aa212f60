"""A bucket that goes away and comes back: nothing is lost, and nobody waits for it who need not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bucket import Bucket
from tests.faults.conftest import Facts, NewSearch
from tests.faults.invariants import check
from tests.faults.searching import Search, wait_until
from tests.proxy import Proxy

MINUTE_S = 60.0


@dataclass(frozen=True)
class Outage:
    """How a bucket goes away, whether the worker dies meanwhile, and how much longer it lasts."""

    how: str
    dies: bool
    longer_s: float = MINUTE_S


OUTAGES = [
    pytest.param(Outage("silent", False, 0.0), id="silent"),
    *(
        pytest.param(Outage(how, dies), id=f"{how}-{dies}", marks=pytest.mark.exhaustive)
        for how in ("refuses", "silent")
        for dies in (True, False)
    ),
]


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Stands between the search and its bucket."""
    proxy = Proxy(bucket.server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.shut()


@contextmanager
def away(how: str, proxy: Proxy) -> Iterator[None]:
    """Takes the bucket away for the time of a ``with``."""
    if how == "silent":
        with proxy.silent():
            yield
        return
    proxy.shut()
    try:
        yield
    finally:
        proxy.open()


@pytest.fixture
def search(new_search: NewSearch, bucket: Bucket, data_folder: Path) -> Search:
    """A search with images, labels and checkpoints in a bucket."""
    search = new_search()
    bucket.put_folder(data_folder, "data")
    settings = search.config
    places = {
        "labels": f"{bucket.url}/data/train_classes.csv",
        "images": f"{bucket.url}/data/train-jpg",
    }
    stages = {"checkpoints": f"{bucket.url}/checkpoints"}
    search.config = settings.model_copy(
        update={
            "data": settings.data.model_copy(update=places),
            "stages": settings.stages.model_copy(update=stages),
        }
    )
    return search


@pytest.mark.parametrize("outage", OUTAGES)
def test_no_trial_is_lost(
    search: Search,
    undisturbed: Callable[..., Facts],
    bucket: Bucket,
    proxy: Proxy,
    outage: Outage,
) -> None:
    expected = undisturbed()
    begun = search.begin()
    search.hold_from(3)
    worker = search.start()
    search.wait_for_epochs(3)
    with away(outage.how, proxy):
        if outage.dies:
            worker.kill()
            worker = search.start()  # which needs the data, and waits for them
            wait_until(lambda: "waiting" in worker.said(), "it waits")
        else:
            search.hold_from(5)  # two more epochs whose checkpoints have no place
            search.wait_for_epochs(5)
            if outage.how == "refuses":
                wait_until(lambda: "checkpoints" in worker.said(), "it goes on without")
        time.sleep(outage.longer_s)
    search.let_go()
    assert worker.end() == 0, worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded <= outage.dies  # it may be killed before it says what it trained
    assert outcome.facts() == expected
    assert any(key.endswith(".pt") for key in bucket.keys("checkpoints"))
