"""Our tables, which stand beside Optuna's in the same database."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    func,
    text,
)

METADATA = MetaData()

# Optuna's, with no more than we refer to. Optuna makes them.
STUDIES = Table(
    "studies",
    METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("study_name", Text),
)
TRIALS = Table(
    "trials",
    METADATA,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", ForeignKey(STUDIES.c.study_id)),
    Column("state", Text),
)

# JSON and not JSONB, which keeps neither the order of keys, nor -0.0, nor that 1e16 is a float.
STUDY = Table(
    "canopy_study",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id, ondelete="CASCADE"), primary_key=True),
    Column("record", JSON, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("target", Integer),
    Column("search", JSON(none_as_null=True)),
    Column("launched", DateTime(timezone=True)),
    Column("control", Text, nullable=False, server_default=text("'run'")),
)
EPOCH = Table(
    "canopy_epoch",
    METADATA,
    Column("trial_id", ForeignKey(TRIALS.c.trial_id, ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("metrics", JSON, nullable=False),
    Column("times_trained", Integer, nullable=False, server_default=text("1")),
    Column("recorded", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("stage", Text),
    Column("replayed", Boolean, nullable=False, server_default=false()),
)
WORKER = Table(
    "canopy_worker",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("study_id", ForeignKey(STUDIES.c.study_id, ondelete="CASCADE"), index=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slot", Text, nullable=False),
    Column("started", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended", DateTime(timezone=True)),
    Column("end_reason", Text),
    Column("doing", JSON(none_as_null=True)),
    Column("progressed", DateTime(timezone=True)),
    Column("silence_allowed_s", Float),
)
# The lease of a trial is its worker, as long as that lives, and the token that its taking was
# given; `writes` counts what was written under the token, `deaths` the workers that died of it
# since it moved on last, and `changed` is the transaction that wrote last.
TRIAL = Table(
    "canopy_trial",
    METADATA,
    Column("trial_id", ForeignKey(TRIALS.c.trial_id, ondelete="CASCADE"), primary_key=True),
    Column("worker", BigInteger, index=True),
    Column("token", Integer, nullable=False, server_default=text("0")),
    Column("writes", Integer, nullable=False, server_default=text("0")),
    Column("deaths", Integer, nullable=False, server_default=text("0")),
    Column("changed", BigInteger, nullable=False, server_default=text("0"), index=True),
    Column("taken", DateTime(timezone=True)),
    Column("ended", DateTime(timezone=True)),
    Index("ix_canopy_trial_deaths", "deaths", postgresql_where=text("deaths > 0")),
    Index("ix_canopy_trial_ended", "ended", postgresql_where=text("ended IS NOT NULL")),
)

# Of the stage tree, which belongs to no study: what is known stays when a study is deleted.
DATABASE = Table("canopy_database", METADATA, Column("id", Text, primary_key=True))
STAGE = Table(
    "canopy_stage",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("parent", Text, index=True),
    Column("epoch", Integer, nullable=False),
    Column("metrics", JSON(none_as_null=True)),
    Column("diverged", Text),
    Column("trial_id", ForeignKey(TRIALS.c.trial_id, ondelete="SET NULL"), index=True),
    Column("times_trained", Integer, nullable=False, server_default=text("1")),
    Column("recorded", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
STAGE_LEASE = Table(
    "canopy_stage_lease",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("worker", BigInteger, nullable=False),
)
CHECKPOINT = Table(
    "canopy_checkpoint",
    METADATA,
    Column("place", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", Text),
    Column("worker", BigInteger),
    Column("is_end", Boolean, nullable=False),
    Column("used", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
# What models say of validation images, by the key of their stage. They are no stage's property: a
# trial with a tree of its own keeps those of its last epoch when the tree is gone.
VALIDATION = Table(
    "canopy_validation",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("labels", JSON, nullable=False),
    Column("images", Integer, nullable=False),
    Column("targets", LargeBinary, nullable=False),
)
PREDICTION = Table(
    "canopy_prediction",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("validation", ForeignKey(VALIDATION.c.digest), nullable=False),
    Column("logits", LargeBinary, nullable=False),
)
# Of the mirror in ClearML, for each server: how a study gets on with it, what each task was sent.
# The study's own task has the number -1.
CLEARML_STUDY = Table(
    "canopy_clearml_study",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id, ondelete="CASCADE"), primary_key=True),
    Column("server", Text, primary_key=True),
    Column("project", Text),
    Column("web", Text),
    Column("api_version", Text),
    Column("problem", Text),
    Column("since", DateTime(timezone=True)),
    Column("used", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
CLEARML_TASK = Table(
    "canopy_clearml_task",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id, ondelete="CASCADE"), primary_key=True),
    Column("server", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("task", Text),
    Column("state", Text),
    Column("epochs", Integer, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("lines_unsure", Boolean, nullable=False),
    Column("sent", JSON, nullable=False),
    Column("problem", Text),
)
# Which study trains the finalists of another one again, what was asked for last, and what the runs
# of such a study score on test. No other trial is scored on test.
CONFIRMATION = Table(
    "canopy_confirmation",
    METADATA,
    Column("study_id", ForeignKey(STUDIES.c.study_id, ondelete="CASCADE"), primary_key=True),
    Column(
        "confirmed_by",
        ForeignKey(STUDIES.c.study_id, ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    Column("top", Integer, nullable=False),
    Column("seeds", Integer, nullable=False),
    Column("asked", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
TEST = Table(
    "canopy_test",
    METADATA,
    Column("trial_id", ForeignKey(TRIALS.c.trial_id, ondelete="CASCADE"), primary_key=True),
    Column("scores", JSON, nullable=False),
    Column("scored", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
OUR_TABLES = (
    STUDY,
    EPOCH,
    WORKER,
    TRIAL,
    DATABASE,
    STAGE,
    STAGE_LEASE,
    CHECKPOINT,
    VALIDATION,
    PREDICTION,
    CLEARML_STUDY,
    CLEARML_TASK,
    CONFIRMATION,
    TEST,
)
