"""Predictions of trials' models for each validation image, to compare trials."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sqlalchemy
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql

from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import EPOCH, PREDICTION, STUDIES, TRIALS, VALIDATION

_LITTLE_ENDIAN = np.dtype("<f4")
_UNKNOWN = 255


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """The images that trials are validated on, in order.

    Attributes:
        digest: equal for two sets of the same images and labels, whatever their paths.
        labels: names of the columns.
        targets: (images, labels), uint8, 0 or 1, or 255 where that is unknown.
    """

    digest: str
    labels: tuple[str, ...]
    targets: NDArray[np.uint8]

    @cached_property
    def images_by_label(self) -> dict[str, int]:
        """Label → number of images that have it."""
        counts = (self.targets == 1).sum(axis=0, dtype=int).tolist()
        return dict(zip(self.labels, counts, strict=True))

    @cached_property
    def ranked(self) -> NDArray[np.bool_]:
        """(labels,), the labels with an AP: some image has them, and some image does not."""
        both: NDArray[np.bool_] = (self.targets == 1).any(axis=0) & (self.targets == 0).any(axis=0)
        return both

    @cached_property
    def packed_targets(self) -> bytes:
        """The targets row by row, eight in a byte; then which are known, unless all are."""
        packed = np.packbits(self.targets == 1).tobytes()
        known = self.targets <= 1
        return packed if known.all() else packed + np.packbits(known).tobytes()


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's predictions for the validation images.

    Attributes:
        validation: the images' labels.
        logits: (images, labels), float32, unnormalised.
    """

    validation: ValidationSet
    logits: NDArray[np.float32]


def predicting(
    key: str, validation: ValidationSet, logits: NDArray[np.float32]
) -> Callable[[sqlalchemy.Connection], None]:
    """Returns a function that records the predictions of a stage, unless it has some.

    Args:
        key: of the stage.
        validation: the images.
        logits: (images, labels), float32.
    """
    images = postgresql.insert(VALIDATION).values(
        digest=validation.digest,
        labels=list(validation.labels),
        images=len(validation.targets),
        targets=validation.packed_targets,
    )
    insert = postgresql.insert(PREDICTION).values(
        key=key,
        validation=validation.digest,
        logits=np.ascontiguousarray(logits, dtype=_LITTLE_ENDIAN).tobytes(),
    )

    def write(connection: sqlalchemy.Connection) -> None:
        connection.execute(images.on_conflict_do_nothing())
        connection.execute(insert.on_conflict_do_nothing())

    return write


def trial_predictions(
    database: Database, study: str, numbers: Sequence[int]
) -> dict[int, Predictions]:
    """Reads the predictions of some trials' models after their last epoch.

    Args:
        database: an open one.
        study: name of the trials' study.
        numbers: of the trials.

    Returns:
        Trial number → predictions; without trials that have no epoch, or whose last one was trained
        by a Canopy that did not store predictions.
    """
    last = (
        sqlalchemy.select(TRIALS.c.number, EPOCH.c.stage)
        .ext(postgresql.distinct_on(EPOCH.c.trial_id))
        .select_from(EPOCH.join(TRIALS).join(STUDIES))
        .where(STUDIES.c.study_name == study, TRIALS.c.number.in_(numbers))
        .order_by(EPOCH.c.trial_id, EPOCH.c.epoch.desc())
        .subquery()
    )
    query = sqlalchemy.select(
        last.c.number, PREDICTION.c.validation, PREDICTION.c.logits
    ).join_from(last, PREDICTION, PREDICTION.c.key == last.c.stage)
    with database.engine.connect() as connection:
        rows = connection.execute(query).all()
        digests = {row.validation for row in rows}
        sets = {digest: _validation_set(connection, digest) for digest in digests}
    return {
        row.number: Predictions(
            sets[row.validation],
            np.frombuffer(row.logits, dtype=_LITTLE_ENDIAN)
            .astype(np.float32)  # a copy, which can be written to
            .reshape(sets[row.validation].targets.shape),
        )
        for row in rows
    }


def forget_predictions(connection: sqlalchemy.Connection, keys: Sequence[str]) -> None:
    """Removes the predictions of some stages, except those of a trial's last epoch."""
    later = EPOCH.alias()
    is_not_last = sqlalchemy.exists().where(
        EPOCH.c.stage == PREDICTION.c.key,
        later.c.trial_id == EPOCH.c.trial_id,
        later.c.epoch > EPOCH.c.epoch,
    )
    connection.execute(sqlalchemy.delete(PREDICTION).where(PREDICTION.c.key.in_(keys), is_not_last))


def _validation_set(connection: sqlalchemy.Connection, digest: str) -> ValidationSet:
    row = connection.execute(
        sqlalchemy.select(VALIDATION.c.labels, VALIDATION.c.images, VALIDATION.c.targets).where(
            VALIDATION.c.digest == digest
        )
    ).one()
    shape = (row.images, len(row.labels))
    packed = np.frombuffer(row.targets, dtype=np.uint8)
    cells = shape[0] * shape[1]
    size = -(-cells // 8)
    targets = np.unpackbits(packed[:size], count=cells)
    if len(packed) > size:
        targets[np.unpackbits(packed[size:], count=cells) == 0] = _UNKNOWN
    return ValidationSet(digest, tuple(row.labels), targets.reshape(shape))
