from canopy_search.storage.study.enqueued import EnqueuedSetting, enqueued_settings


def test_the_first_one_is_full_unless_it_says_otherwise() -> None:
    rows = [{"gamma": 1.0}, {"gamma": 0.9}, {"gamma": 0.8, "full": True}]
    assert enqueued_settings(rows) == [
        EnqueuedSetting({"gamma": 1.0}, is_full=True),
        EnqueuedSetting({"gamma": 0.9}, is_full=False),
        EnqueuedSetting({"gamma": 0.8}, is_full=True),
    ]
    assert enqueued_settings([{"full": False}]) == [EnqueuedSetting({}, is_full=False)]
    assert enqueued_settings(None) == []
