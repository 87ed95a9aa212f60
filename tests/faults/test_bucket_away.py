"""A bucket that goes away and comes back: nothing is lost, and nobody waits for it who need not."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bucket import Bucket
from tests.faults.conftest import Facts, NewSearch
from tests.faults.invariants import check
from tests.faults.searching import Pace, Search
from tests.proxy import Proxy

AWAY_S = float(os.environ.get("CANOPY_TEST_AWAY_S", "3"))
SLOW = Pace(epoch_s=max(0.15, AWAY_S / 12))


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


def all_in(search: Search, bucket: Bucket, data: Path) -> Search:
    """The same search with images, labels and checkpoints in a bucket."""
    bucket.put_folder(data, "data")
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


@pytest.mark.parametrize("how", ["refuses", "silent"])
@pytest.mark.parametrize("dies", [False, True], ids=["works on", "dies"])
def test_no_trial_is_lost(  # noqa: PLR0917 - a search, its bucket and what happens to them
    new_search: NewSearch,
    undisturbed: "object",
    bucket: Bucket,
    proxy: Proxy,
    data_folder: Path,
    how: str,
    dies: bool,
) -> None:
    assert callable(undisturbed)
    expected: Facts = undisturbed()
    search = all_in(new_search(pace=SLOW), bucket, data_folder)
    begun = search.begin()
    worker = search.start()
    search.wait_for_epochs(2)
    began_s = time.monotonic()
    with away(how, proxy):
        if dies:
            os.kill(worker.pid, signal.SIGKILL)
            worker = search.start()  # which needs the data, and waits for them
        time.sleep(max(0.0, AWAY_S - (time.monotonic() - began_s)))
    assert worker.end(AWAY_S * 3 + 90) == 0, worker.said()
    outcome = check(search, begun)
    assert outcome.unrecorded <= dies  # it may be killed before it says what it trained
    assert outcome.facts() == expected
    assert any(key.endswith(".pt") for key in bucket.keys("checkpoints"))
