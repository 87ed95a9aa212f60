import csv
import json
from pathlib import Path

from PIL import Image

from benchmarks.emoji_data import write_emoji

_WOMAN_RUNNING = {
    "name": "WOMAN RUNNING FACING RIGHT",
    "short_name": "woman-running",
    "category": "People & Body",
    "image": "woman.png",
    "skin_variations": {
        "1F3FB": {"image": "woman-light.png"},
        "1F3FF": {"image": "woman-dark.png"},
    },
}
_HANDSHAKE = {
    "name": "HANDSHAKE",
    "short_name": "handshake",
    "category": "People & Body",
    "image": "handshake.png",
    "skin_variations": {"1F3FB-1F3FD": {"image": "handshake-two.png"}},
}


def test_labels_follow_from_names_categories_and_skins(tmp_path: Path) -> None:
    flags = [
        {"name": f"Flag {n}", "short_name": "flag", "category": "Flags", "image": f"flag-{n}.png"}
        for n in range(100)
    ]
    emoji = [_WOMAN_RUNNING, _HANDSHAKE, *flags]
    package = tmp_path / "package"
    drawings = package / "img" / "maker" / "64"
    drawings.mkdir(parents=True)
    (package / "emoji.json").write_text(json.dumps(emoji))
    names = [each["image"] for each in flags]
    names += ["woman.png", "woman-light.png", "woman-dark.png", "handshake-two.png"]
    for name in names:
        Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(drawings / name)

    # handshake.png was not drawn
    assert write_emoji(package, tmp_path / "data") == len(names)

    with (tmp_path / "data" / "labels.csv").open() as file:
        rows = {row["image_name"]: row for row in csv.DictReader(file)}
    tags = {name: row["tags"].split() for name, row in rows.items()}
    assert tags["woman"] == ["woman", "right"]
    assert tags["woman-dark"] == ["woman", "right", "dark"]
    assert tags["handshake-two"] == ["light", "medium"]
    assert tags["flag-7"] == ["flag"]
    parts = [row["split"] for row in rows.values()]
    assert parts.count("train") == 64  # whole batches of 32
    assert parts.count("validation") > 0
    with Image.open(tmp_path / "data" / "images" / "flag-7.jpg") as image:
        assert image.getpixel((5, 5)) == (255, 255, 255)
