"""What programs read about the order in which checkpoints are evicted."""

from canopy_search.storage.stages.eviction_order import EvictionPriority


def test_the_words_in_json_are_those_of_release_0_1_0() -> None:
    words = [priority.json_name for priority in EvictionPriority]
    assert words == ["superseded", "end", "tip", "paused", "trunk", "running"]
