"""Runs a function in threads and returns results in order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Number of CPU cores that this process may use, within a container's limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runs(count: int, length: int) -> list[range]:
    """Splits the positions from 0 to `count` into ranges, one per task, to reduce overhead."""
    return [range(at, min(at + length, count)) for at in range(0, count, length)]


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    stop: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Applies a function in threads and yields the results in the order of the items.

    At most `ahead` results are pending at any time, so memory stays bounded for slow consumers.
    Closing or deleting the iterator early ends its threads.

    Args:
        function: called in a thread; its exceptions are raised in the consumer, in order.
        items: the arguments, consumed as needed.
        threads: number of threads.
        ahead: number of items submitted ahead of the consumer.
        stop: makes waiting threads give up; called if the iteration ends early.

    Yields:
        ``function(item)`` for every item.
    """
    remaining = iter(items)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="canopy-data")
    pending: deque[Future[Result]] = deque()
    try:
        for item in islice(remaining, max(ahead, 1)):
            pending.append(executor.submit(function, item))
        while pending:
            result = pending.popleft().result()
            for item in islice(remaining, 1):
                pending.append(executor.submit(function, item))
            yield result
    except BaseException:
        stop()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
