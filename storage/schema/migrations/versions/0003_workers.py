"""Several workers: their rows, their leases, and the control state of a study."""

import sqlalchemy
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table of workers, which own all leases."""
    now = sqlalchemy.func.now()
    instant = sqlalchemy.DateTime(timezone=True)
    op.create_table(
        "canopy_worker",
        sqlalchemy.Column("id", sqlalchemy.BigInteger, primary_key=True, autoincrement=False),
        sqlalchemy.Column("study_id", sqlalchemy.Integer, nullable=True),
        sqlalchemy.Column("host", sqlalchemy.Text, nullable=False),
        sqlalchemy.Column("pid", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("slot", sqlalchemy.Text, nullable=False),
        sqlalchemy.Column("started", instant, nullable=False, server_default=now),
        sqlalchemy.Column("seen", instant, nullable=False, server_default=now),
        sqlalchemy.Column("ended", instant, nullable=True),
        sqlalchemy.Column("end_reason", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("doing", sqlalchemy.JSON(none_as_null=True), nullable=True),
        sqlalchemy.Column("progressed", instant, nullable=True),
        sqlalchemy.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
    )
    op.create_index("ix_canopy_worker_study_id", "canopy_worker", ["study_id"])
    # Old leases belong to sessions, and none is open while tables are migrated.
    op.execute("DELETE FROM canopy_stage_lease")
    op.execute("UPDATE canopy_trial SET worker = NULL")
    op.drop_column("canopy_stage_lease", "expires")
    for name in ("token", "writes", "deaths"):
        column = sqlalchemy.Column(
            name, sqlalchemy.Integer, nullable=False, server_default=sqlalchemy.text("0")
        )
        op.add_column("canopy_trial", column)
    changed = sqlalchemy.Column(
        "changed", sqlalchemy.BigInteger, nullable=False, server_default=sqlalchemy.text("0")
    )
    op.add_column("canopy_trial", changed)
    op.create_index("ix_canopy_trial_changed", "canopy_trial", ["changed"])
    op.create_index("ix_canopy_trial_worker", "canopy_trial", ["worker"])
    for name in ("taken", "ended"):
        op.add_column("canopy_trial", sqlalchemy.Column(name, instant, nullable=True))
    for name, condition in (("deaths", "deaths > 0"), ("ended", "ended IS NOT NULL")):
        where = sqlalchemy.text(condition)
        op.create_index(f"ix_canopy_trial_{name}", "canopy_trial", [name], postgresql_where=where)
    op.add_column("canopy_study", sqlalchemy.Column("target", sqlalchemy.Integer, nullable=True))
    op.add_column("canopy_study", sqlalchemy.Column("launched", instant, nullable=True))
    search = sqlalchemy.Column("search", sqlalchemy.JSON(none_as_null=True), nullable=True)
    op.add_column("canopy_study", search)
    control = sqlalchemy.Column(
        "control", sqlalchemy.Text, nullable=False, server_default=sqlalchemy.text("'run'")
    )
    op.add_column("canopy_study", control)


def downgrade() -> None:
    """Removes workers and leases; trials and their results stay."""
    for column in ("control", "search", "launched", "target"):
        op.drop_column("canopy_study", column)
    for name in ("ended", "deaths", "worker", "changed"):
        op.drop_index(f"ix_canopy_trial_{name}")
    for column in ("ended", "taken", "changed", "deaths", "writes", "token"):
        op.drop_column("canopy_trial", column)
    op.execute("DELETE FROM canopy_stage_lease")
    expires = sqlalchemy.Column("expires", sqlalchemy.DateTime(timezone=True), nullable=False)
    op.add_column("canopy_stage_lease", expires)
    op.drop_table("canopy_worker")
