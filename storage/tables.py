"""Our tables, which stand beside Optuna's in the same database."""

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    func,
    text,
)

METADATA = MetaData()

# Optuna's, with no more than we refer to. Optuna makes them.
STUDIES = Table("studies", METADATA, Column("study_id", Integer, primary_key=True))
TRIALS = Table(
    "trials",
    METADATA,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", ForeignKey(STUDIES.c.study_id)),
)

# JSON and not JSONB, which keeps neither the order of keys, nor -0.0, nor that 1e16 is a float.
STUDY = Table(
    "canopy_study",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id, ondelete="CASCADE"), primary_key=True),
    Column("record", JSON, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
EPOCH = Table(
    "canopy_epoch",
    METADATA,
    Column("trial_id", ForeignKey(TRIALS.c.trial_id, ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("metrics", JSON, nullable=False),
    Column("times_trained", Integer, nullable=False, server_default=text("1")),
    Column("recorded", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
OUR_TABLES = (STUDY, EPOCH)
