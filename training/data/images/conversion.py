"""How stored values become red, green and blue of 8 bits, in all images of a data set alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from canopy_search.training.data.images.stored import StoredValues
from canopy_search.training.errors import DamagedImageError
from canopy_search.training.settings import Colour, Range

WHITE: Colour = (255, 255, 255)

_PERCENTILES = (0.1, 99.9)
_WHOLE_RANGE_SPAN = 2**15
_VALUES_PER_IMAGE = 2**16


class UndecidedError(Exception):
    """An image depends on a setting that is ``auto``.

    Attributes:
        setting: ``range`` or ``background``.
    """

    def __init__(self, setting: Literal["range", "background"]) -> None:
        super().__init__(setting)
        self.setting = setting


@dataclass(frozen=True)
class Conversion:
    """How stored values become colours of 8 bits.

    Attributes:
        bands: the three for red, green and blue, or one, counted from 1; None for the file's own.
        range: the values that become 0 and 255; None for the whole range of 8 and 16 bits.
            ``auto`` decides once an image has more than 8 bits.
        background: the colour behind transparent pixels; None uses the colours stored there.
            ``auto`` decides once an image is transparent.
    """

    bands: tuple[int, ...] | None = None
    range: Range | Literal["auto"] | None = None
    background: Colour | Literal["auto"] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Conversion":
        """Returns the conversion of `dataclasses.asdict`, from JSON values."""
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
            }
        )

    @property
    def settled(self) -> "Conversion":
        """This conversion for images of which none depended on an ``auto``."""
        return Conversion(
            self.bands,
            None if self.range == "auto" else self.range,
            None if self.background in {"auto", "none"} else self.background,
        )

    @property
    def differences(self) -> list[Any]:
        """What differs from the conversion of 8-bit images, as JSON values; empty for these."""
        given = {name: value for name, value in asdict(self.settled).items() if value is not None}
        return [given] if given else []

    def chosen(self, stored: StoredValues) -> NDArray[Any]:
        """Returns the values of the bands that are used, (height, width, 1 or 3).

        Raises:
            DamagedImageError: the file does not have the bands, or does not say which to use.
        """
        count = stored.values.shape[2]
        bands = self.bands or stored.colours
        has = "1 band" if count == 1 else f"{count} bands"
        if bands is None:
            raise DamagedImageError(
                "unclear bands",
                f"{has}; name those for red, green and blue, or a single one, counted from 1: "
                "data.bands: [3, 2, 1] if blue is first (canopy init: --bands 3,2,1)",
            )
        if max(bands) > count:
            raise DamagedImageError("other bands", f"{has}, but data.bands names band {max(bands)}")
        return stored.values[..., [band - 1 for band in bands]]

    def colours_of(self, stored: StoredValues) -> NDArray[np.uint8]:
        """Returns (height, width, 3), uint8.

        Raises:
            DamagedImageError: the bands or values do not fit the settings.
            UndecidedError: the image depends on a setting that is ``auto``.
        """
        chosen = self.chosen(stored)
        colours = self._eight_bits(chosen, stored.missing)
        colours = np.broadcast_to(colours, (*colours.shape[:2], 3))
        if (
            stored.alpha is None
            or self.background is None
            or stored.alpha_band in (self.bands or ())
        ):
            return colours
        if self.background != "auto":
            return _composited(colours, stored.alpha, self.background)
        if stored.alpha.min() < 255:
            raise UndecidedError("background")
        return colours

    def _eight_bits(self, values: NDArray[Any], missing: float | None) -> NDArray[np.uint8]:
        bits = 8 * values.dtype.itemsize
        is_whole = values.dtype.kind == "u" and bits <= 16
        if values.dtype.kind == "f" and np.isnan(values).all():
            raise DamagedImageError("damaged", "every pixel is NaN")
        if self.range == "auto" and bits > 8:
            raise UndecidedError("range")
        if not isinstance(self.range, tuple):
            if not is_whole:
                raise DamagedImageError(
                    "damaged",
                    f"{bits}-bit pixels have no defined brightness range; set data.range to the "
                    "values of black and white, or save it with 8 or 16 bits",
                )
            high_bits: NDArray[np.uint8] = (values >> (bits - 8)).astype(np.uint8)
            return high_bits
        low, high = self.range
        if is_whole and (high <= 1 or (bits == 8 and high > 255)):
            raise DamagedImageError(
                "other bit depth",
                f"{bits} bits, but data.range [{low:g}, {high:g}] is for other images; save all "
                "of them with the same depth",
            )
        if is_whole:
            table = _scaled(np.arange(2**bits, dtype=values.dtype), self.range, missing)
            found: NDArray[np.uint8] = np.take(table, values)
            return found
        return _scaled(values, self.range, missing)


AS_STORED = Conversion()


def fitting_range(samples: Sequence[NDArray[Any]]) -> Range | None:
    """Returns one range for all images of a data set, from percentiles of some of them.

    Args:
        samples: for each of some images, spread over the data set, its `some_values`.

    Returns:
        None, the whole range, if most of the images have 8 bits, or if the values of 16 bits span
        at least half of it.
    """
    deep = [values for values in samples if values.dtype != np.uint8 and len(values)]
    if 2 * len(deep) <= len(samples):
        return None
    values = np.concatenate(deep)
    low, high = np.percentile(values, _PERCENTILES).tolist()
    if values.dtype.kind in "ui":
        low, high = float(math.floor(low)), float(math.ceil(high))
    else:
        low, high = float(f"{low:.6g}"), float(f"{high:.6g}")
    is_whole = values.dtype == np.uint16 and high - low >= _WHOLE_RANGE_SPAN
    return None if is_whole or low >= high else (low, high)


def some_values(values: NDArray[Any], missing: float | None) -> NDArray[Any]:
    """Returns at most `_VALUES_PER_IMAGE` values, evenly spread, (values,), without missing ones.

    Args:
        values: (height, width, bands), bands 1 or 3.
        missing: the value of pixels without data.
    """
    flat: NDArray[Any] = values.reshape(-1)
    # Without a common factor with the number of bands, so that every band is sampled.
    step = -(-flat.size // _VALUES_PER_IMAGE)
    flat = flat[:: step + (step % 3 == 0)]
    flat = flat[np.isfinite(flat)]
    if missing is not None:
        flat = flat[flat != missing]
    return flat


def _scaled(values: NDArray[Any], limits: Range, missing: float | None) -> NDArray[np.uint8]:
    low, high = limits
    is_exact = values.dtype.itemsize <= 2 or values.dtype == np.float32
    scaled: NDArray[Any] = values.astype(np.float32 if is_exact else np.float64)
    with np.errstate(all="ignore"):  # pixels from elsewhere may be infinite, or nearly
        scaled = np.nan_to_num((scaled - low) * (255 / (high - low)))
    if missing is not None:
        scaled[values == missing] = 0
    eight_bits: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return eight_bits


def _composited(
    colours: NDArray[np.uint8], alpha: NDArray[np.uint8], background: Colour
) -> NDArray[np.uint8]:
    opacity = alpha[..., None].astype(np.uint16)
    blended = colours * opacity + np.array(background, np.uint16) * (255 - opacity) + 127
    return (blended // 255).astype(np.uint8)
