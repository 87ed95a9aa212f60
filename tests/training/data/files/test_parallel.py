import threading
import time
from collections.abc import Iterator

import pytest

from canopy_search.training.data.files.parallel import map_in_order, runs


def data_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "canopy-data" in thread.name}


@pytest.fixture
def others() -> set[threading.Thread]:
    """Threads of an iterator that an earlier test's exception still holds."""
    return data_threads()


def test_results_come_in_the_order_of_the_items(others: set[threading.Thread]) -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    results = list(map_in_order(slow_first, range(20), threads=4, ahead=8))

    assert results == [number * number for number in range(20)]
    assert data_threads() <= others


def test_no_more_than_ahead_items_are_drawn_before_they_are_needed(
    others: set[threading.Thread],
) -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = map_in_order(lambda number: number, items(), threads=2, ahead=5)

    assert next(results) == 0
    assert len(drawn) == 6
    results.close()
    assert data_threads() <= others


def test_an_exception_reaches_the_consumer_in_its_turn(others: set[threading.Thread]) -> None:
    results = map_in_order(lambda number: 1 // number, [1, 0], threads=2, ahead=4)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert data_threads() <= others


def test_dropping_the_iterator_ends_its_threads(others: set[threading.Thread]) -> None:
    results = map_in_order(lambda number: number, range(1000), threads=3, ahead=10)
    next(results)
    assert data_threads() > others

    del results

    assert data_threads() <= others


def test_no_items_give_no_results() -> None:
    assert list(map_in_order(lambda number: number, [], threads=2, ahead=2)) == []


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16])
def test_runs_cover_every_position_once(count: int) -> None:
    cut = runs(count, 8)

    assert [at for run in cut for at in run] == list(range(count))
    assert all(1 <= len(run) <= 8 for run in cut)
