"""The report that `canopy init` prints."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from canopy_search.dashboards.formatting.values import counted
from canopy_search.search.workflows.init import Examination
from canopy_search.training.data.images.skipped import skipped_text
from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.labels.targets import has_exclusive_labels, has_label, is_known
from canopy_search.training.data.splits import PARTS
from canopy_search.training.data.survey import (
    FileSurvey,
    LabelPair,
    always_together,
    copies,
    never_together,
)
from canopy_search.training.data.warnings import labels_without_negatives, labels_without_positives
from canopy_search.training.errors import listed

SHOWN = 10
LABELS_SHOWN = 40
BAR = 24
FEWER_THAN_PARTS = 3


def report_lines(found: Examination) -> Iterator[str]:
    """Yields the report line by line."""
    yield from _images(found)
    yield ""
    yield from _labels(found)
    yield ""
    yield from _split(found)
    yield from _together(found)
    yield from _copies(found)
    yield ""
    yield f"weights   {found.weights}"


def _images(found: Examination) -> Iterator[str]:
    images = len(found.table.image_names)
    dataset = found.dataset
    yield f"images    {len(dataset.image_names):,} of {images:,} can be used; {_files(found.files)}"
    if dataset.skipped:
        yield f"          left out: {skipped_text(dataset.skipped, images)}"
    for count, what in (
        (found.files.animated, "with several frames or pages; the first one is used"),
        (found.files.rotated, "rotated by their EXIF orientation"),
        (len(found.unnamed), "in the folder, but not in the label file"),
    ):
        if count:
            yield f"          {counted(count, 'image')} {what}"
    yield from _conversion(found)


def _conversion(found: Examination) -> Iterator[str]:
    """Yields how pixels were read, so that a wrong reading is seen."""
    data = found.data
    if data.bands is not None:
        what = "red, green and blue are bands" if len(data.bands) == 3 else "grey is band"
        yield f"          {what} {_numbers(data.bands)} (data.bands)"
    if data.range != "auto":
        low, high = data.range
        yield f"          values from {low:,g} to {high:,g} are used, black to white (data.range)"
    if isinstance(data.background, tuple):
        yield f"          transparent pixels become {_numbers(data.background)} (data.background)"


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _files(files: FileSurvey) -> str:
    formats = ", ".join(f"{count:,} {name}" for name, count in files.formats.most_common())
    modes = [f"{count:,} {name}" for name, count in files.modes.most_common() if name != "RGB"]
    if not files.sizes:
        return "none has a readable header"
    widths, heights = zip(*files.sizes, strict=True)
    (width, height), count = files.sizes.most_common(1)[0]
    sizes = (
        f"all {width}×{height} px"
        if len(files.sizes) == 1
        else f"{min(widths)}×{min(heights)} to {max(widths)}×{max(heights)} px, "
        f"most often {width}×{height} ({count:,})"
    )
    return f"{formats}; {sizes}" + (f"; {', '.join(modes)}" if modes else "")


def _labels(found: Examination) -> Iterator[str]:
    table, targets = found.table, found.dataset.targets
    images = len(targets)
    counts = sorted(found.dataset.label_counts().items(), key=lambda entry: (-entry[1], entry[0]))
    has = has_label(targets)
    unlabelled = int((~has.any(axis=1)).sum())
    yield (
        f"labels    {len(counts):,}, {has.sum() / images:.1f} an image; {table.layout}; "
        f"{counted(unlabelled, 'image')} without a label"
    )
    yield from _meanings(found)
    most_frequent = [(listed([label]), count) for label, count in counts[:LABELS_SHOWN]]
    width = max((len(label) for label, _ in most_frequent), default=0)
    for label, count in most_frequent:
        share = f"{100 * count / images:>5.1f} %  {'█' * round(BAR * count / images)}"
        yield f"          {label:<{width}}  {count:>7,}  {share}".rstrip()
    if len(counts) > LABELS_SHOWN:
        rarest = listed([f"{label} {count}" for label, count in counts[-SHOWN:]])
        yield f"          … and {len(counts) - LABELS_SHOWN:,} more; the rarest: {rarest}"
    if table.ignored:
        yield f"          not read: {listed(table.ignored)}"


def _meanings(found: Examination) -> Iterator[str]:
    """Yields what was concluded from the cells, so that a wrong conclusion is seen."""
    columns, targets = found.data.columns, found.dataset.targets
    meanings = {"zero": "the label is absent", "one": "it is present", "ignore": "it is unknown"}
    for key, cell in (("uncertain", "-1"), ("blank", "an empty cell")):
        if (meaning := getattr(columns, key)) is not None:
            yield f"          {cell} means that {meanings[meaning]} (data.columns.{key})"
    if not (known := is_known(targets)).all():
        yield f"          {100 * (1 - known.mean()):.2g} % of the labels are unknown and not used"
    if found.data.none is not None:
        yield f"          {found.data.none!r} means no label (data.none)"
    if has_exclusive_labels(targets):
        yield "          every image has exactly one label, so the loss is softmax cross-entropy"
    if always := labels_without_negatives(_used(found), found.dataset.split, "validation"):
        yield f"          every image in validation has {listed(always)}: not in the mean AP"


def _split(found: Examination) -> Iterator[str]:
    dataset, table = found.dataset, _used(found)
    sizes = " / ".join(f"{len(getattr(dataset.split, part)):,}" for part in PARTS)
    settings = found.data.split
    how = f"by the column {settings.column!r}" if table.parts else "at random, stratified"
    if settings.lists:
        how = f"by the lists {listed([Path(each).name for each in settings.lists.values()])}"
    if table.parts is not None and "validation" not in table.parts:
        how += ", validation drawn from train"
    if settings.group:
        groups = Counter(table.groups or ())
        how += f"; {len(groups):,} groups by {settings.group!r} stay whole"
    yield f"split     train / validation / test {sizes}, {how}"
    rare = [label for label, n in dataset.label_counts().items() if n < FEWER_THAN_PARTS]
    if rare:
        yield f"          too rare for three parts (fewer than 3 images): {listed(rare)}"
    for part in PARTS:
        missing = [
            label
            for label in labels_without_positives(table, dataset.split, part)
            if label not in rare
        ]
        if missing:
            yield f"          no image for {part}: {listed(missing)}"


def _together(found: Examination) -> Iterator[str]:
    targets, labels = found.dataset.targets, found.dataset.labels
    for pair in _first(always := always_together(targets, labels)):
        joint = "and" if pair.both_ways else "never without"
        times = counted(pair.count, "image")
        yield (
            f"together  {pair.one} {joint} {pair.other}"
            + (f": always the same {times}; one of them adds no information" * pair.both_ways)
            + (f" ({times})" * (not pair.both_ways))
        )
    yield from _more(always, "together")
    # Labels that exclude each other are never together, every pair of them.
    never = [] if has_exclusive_labels(targets) else never_together(targets, labels)
    for pair in _first(never):
        yield f"apart     {pair.one} never with {pair.other}, though both are frequent"
    yield from _more(never, "apart")


def _copies(found: Examination) -> Iterator[str]:
    names = found.dataset.image_names
    same = copies(found.dataset.digests)
    if not same:
        return
    extra = sum(len(positions) - 1 for positions in same)
    differing = sum(
        bool((found.dataset.targets[positions] != found.dataset.targets[positions[0]]).any())
        for positions in same
    )
    yield f"copies    {counted(extra, 'image')} identical to another one, byte for byte"
    if differing:
        yield f"          {counted(differing, 'image')} whose labels differ from the copy's"
    for positions in same[:SHOWN]:
        yield (
            "          "
            + " = ".join(names[position] for position in positions[:4])
            + " …" * (len(positions) > 4)
        )


def _used(found: Examination) -> LabelTable:
    """The label table without the skipped images."""
    used = set(found.dataset.image_names)
    return found.table.select(
        [row for row, name in enumerate(found.table.image_names) if name in used]
    )


def _first(pairs: Sequence[LabelPair]) -> Sequence[LabelPair]:
    return pairs[:SHOWN]


def _more(pairs: Sequence[LabelPair], what: str) -> Iterator[str]:
    if len(pairs) > SHOWN:
        yield f"          {len(pairs) - SHOWN:,} more pairs {what}"
