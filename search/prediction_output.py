"""Where predictions are written: nothing that somebody still needs."""

from collections.abc import Sequence
from pathlib import Path

from canopy_search.search.errors import PredictionError
from canopy_search.search.image_arguments import ImageFile
from canopy_search.training.atomic import check_writable
from canopy_search.training.data.images import EXTENSIONS


def writable_output(output: Path, model: Path, files: Sequence[ImageFile]) -> Path:
    """Returns the file to replace: `output`, or what it points to if it is a link.

    Args:
        output: as named on the command line.
        model: the model file.
        files: the images.

    Raises:
        PredictionError: `output` is a folder, a device, an image or the model.
        OSError: its folder cannot be made or written to.
    """
    target = output.resolve()
    if target.is_dir():
        raise _refusal(output, "found a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise _refusal(
            output, "found a device or pipe; leave --output out to write to standard output"
        )
    if target.suffix.lower() in EXTENSIONS:
        # `--output *.jpg` is one asterisk away, and the first photograph would be overwritten.
        raise _refusal(
            output,
            "found the name of an image; write --output tags.csv, say, and globs after it",
        )
    # Only an image that was named by itself can have another extension than those.
    others = [file.path for file in files if file.path.suffix.lower() not in EXTENSIONS]
    if target.exists() and any(target.samefile(path) for path in (model, *others)):
        raise _refusal(output, "but that file is read here; name another one")
    check_writable(target)
    return target


def _refusal(output: Path, found: str) -> PredictionError:
    return PredictionError(f"--output {output}: expected a file for the predictions, {found}")
