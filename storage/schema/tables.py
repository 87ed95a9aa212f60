"""Our tables, next to Optuna's in the same database."""

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

OPTUNA_REVISION = "v3.2.0.a"
"""The supported revision of Optuna's tables."""
OPTUNA_TABLES = (
    "alembic_version",
    "study_directions",
    "study_system_attributes",
    "study_user_attributes",
    "trial_heartbeats",
    "trial_intermediate_values",
    "trial_params",
    "trial_system_attributes",
    "trial_user_attributes",
    "trial_values",
    "version_info",
)
"""Optuna's tables besides the following ones."""

# Optuna's tables, with only the columns that we refer to. Optuna creates them.
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

# JSON and not JSONB, which loses the order of keys, -0.0, and that 1e16 is a float.
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
    Column("owner", Text),
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
    Column("version", Text),
)
# The lease of a trial consists of its worker, as long as that is alive, and a token, which is new
# with each lease; `writes` counts the changes written under the token, `deaths` the workers that
# died on the trial since its last progress, and `changed` is the transaction that wrote last.
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

# Tables of the stage tree, which belongs to no study: stages stay when a study is deleted.
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
# Models' predictions for validation images, by stage key. They do not refer to the stage: a trial
# with a tree of its own keeps those of its last epoch when the tree is removed.
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
# Tables of the ClearML mirror, for each server: the state of a study's mirror, and what each task
# was sent. The study's own task has the number -1.
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
# Which study retrains the finalists of another one, the confirmation requested last, and the test
# scores of the runs of such a study. No other trial is scored on the test split.
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
