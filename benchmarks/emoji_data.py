"""Writes a data set of drawings: the emoji of a package, with labels that follow from their names.

Run it with ``python -m benchmarks.emoji_data PACKAGE FOLDER``. The package comes from npm:
``npm pack emoji-datasource-google@16.0.0`` and ``tar xzf`` make the folder ``package`` (MIT; the
drawings are Google's Noto Emoji, Apache-2.0). 3,786 drawings of 64 px, 21 labels.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.shapes_data import split_parts
from canopy_search.training.settings import SplitSettings

SPLIT = SplitSettings(validation=0.25, test=0.1, seed=0)
SIDE_PX = 64
JPEG_QUALITY = 92
SKINS = {
    "1F3FB": "light", "1F3FC": "medium_light", "1F3FD": "medium", "1F3FE": "medium_dark",
    "1F3FF": "dark",
}  # fmt: skip
# A label for each of these words in a name.
WORDS = {
    "woman": "woman|women|girl|girls", "man": "man|men|boy|boys", "person": "person|people|adult",
    "hand": "hand|hands|fingers?|fist|palms?|thumbs?", "face": "face", "hair": "hair|bald|beard",
    "heart": "hearts?|kiss", "mobility": "wheelchair|cane", "right": "facing right",
    "ball": "ball|handball|polo|golfing",
}  # fmt: skip
CATEGORIES = {
    "Animals & Nature": "animal_or_plant", "Food & Drink": "food", "Travel & Places": "travel",
    "Objects": "object", "Symbols": "symbol", "Flags": "flag",
}  # fmt: skip


def main() -> None:
    """Writes ``labels.csv`` and the folder ``images`` below the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="folder that has emoji.json")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(f"wrote {write_emoji(arguments.package, arguments.folder)} drawings")


def write_emoji(package: Path, folder: Path) -> int:
    """Writes the data set, split by a column ``split``, and returns how many drawings it has.

    Args:
        package: an unpacked ``emoji-datasource-…`` with single images.
        folder: is made if need be.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    drawings = next(path for path in sorted((package / "img").glob("*/64")))
    rows: list[tuple[str, list[str]]] = []
    for image, labels in _labelled(json.loads((package / "emoji.json").read_text())):
        source = drawings / image
        if not source.exists():
            continue
        with Image.open(source) as drawing:
            drawn = drawing.convert("RGBA")
        flat = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
        flat.paste(drawn, mask=drawn.getchannel("A"))
        flat.save(folder / "images" / f"{source.stem}.jpg", quality=JPEG_QUALITY)
        rows.append((source.stem, labels))
    parts = split_parts([labels for _, labels in rows], SPLIT)
    lines = [
        f"{name},{' '.join(labels)},{part}"
        for (name, labels), part in zip(rows, parts, strict=True)
    ]
    (folder / "labels.csv").write_text("\n".join(["image_name,tags,split", *lines]) + "\n")
    return len(rows)


def _labelled(emoji: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yields the file of each drawing, with its labels."""
    for each in emoji:
        name = (each["name"] or each["short_name"]).lower()
        labels = [label for label, words in WORDS.items() if re.search(rf"\b({words})\b", name)]
        if each["category"] in CATEGORIES:
            labels.append(CATEGORIES[each["category"]])
        yield each["image"], labels
        for tones, variant in each.get("skin_variations", {}).items():
            skins = [SKINS[tone] for tone in dict.fromkeys(tones.split("-"))]
            yield variant["image"], [*labels, *skins]


if __name__ == "__main__":
    main()
