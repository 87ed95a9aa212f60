from pathlib import Path
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.doctor import networks
from canopy_search.search.doctor.networks import check_networks
from canopy_search.training.data.dataset import DataFacts
from canopy_search.training.network.backbones import build_backbone


def findings(space: dict[str, Any], image_px: int = 32, **training: Any) -> list[str]:
    config = CanopyConfig.model_validate(
        {"data": {"demo": "digits"}, "training": training, "search": {"space": space}}
    )
    images = DataFacts(images=30, train=20, labels=3, image_px=image_px)
    return [
        f"{finding.status}: {finding.found}" + (f"; {finding.remedy}" if finding.remedy else "")
        for finding in check_networks(config, images)
    ]


def test_each_network_of_the_space_is_checked(words: SnapshotAssertion) -> None:
    said = findings({"backbone": ["tinycnn_8", "vit_b_32", "resnet18"]}, image_px=40)
    assert [line.partition(" (")[0] for line in said] == words


def test_a_weights_file_is_compared_with_each(tmp_path: Path, words: SnapshotAssertion) -> None:
    network = build_backbone("tinycnn_8", labels=5, image_px=32, weights="none", seed=0)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    space = {"backbone": ["tinycnn_8", "tinycnn_16"], "weights": ["none", str(tmp_path / "a.pth")]}
    assert "\n".join(findings(space)).replace(str(tmp_path), "FOLDER") == words


@pytest.mark.parametrize("reason", [None, "no network here"])
def test_published_weights_are_asked_for(
    reason: str | None, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        networks, "unavailable", lambda files: dict.fromkeys(files, reason) if reason else {}
    )
    said = findings({"backbone": ["resnet18", "tinycnn_8"]}, weights="imagenet")
    assert "\n".join(said) == words
