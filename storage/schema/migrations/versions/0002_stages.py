"""The stage tree: the metrics of each epoch of each run, its lease and its checkpoint."""

import sqlalchemy
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables of stages, and lets epochs and trials refer to them."""
    now = sqlalchemy.func.now()
    instant = sqlalchemy.DateTime(timezone=True)
    op.create_table(
        "canopy_database",
        sqlalchemy.Column("id", sqlalchemy.Text, primary_key=True),
    )
    op.execute("INSERT INTO canopy_database VALUES (gen_random_uuid()::text)")
    op.create_table(
        "canopy_stage",
        sqlalchemy.Column("key", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("parent", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("epoch", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("metrics", sqlalchemy.JSON(none_as_null=True), nullable=True),
        sqlalchemy.Column("diverged", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("trial_id", sqlalchemy.Integer, nullable=True),
        sqlalchemy.Column(
            "times_trained", sqlalchemy.Integer, nullable=False, server_default=sqlalchemy.text("1")
        ),
        sqlalchemy.Column("recorded", instant, nullable=False, server_default=now),
        sqlalchemy.ForeignKeyConstraint(["trial_id"], ["trials.trial_id"], ondelete="SET NULL"),
    )
    op.create_index("ix_canopy_stage_parent", "canopy_stage", ["parent"])
    op.create_index("ix_canopy_stage_trial_id", "canopy_stage", ["trial_id"])
    op.create_table(
        "canopy_stage_lease",
        sqlalchemy.Column("key", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("worker", sqlalchemy.BigInteger, nullable=False),
        sqlalchemy.Column("expires", instant, nullable=False),
    )
    op.create_table(
        "canopy_checkpoint",
        sqlalchemy.Column("place", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("key", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("size", sqlalchemy.BigInteger, nullable=False),
        sqlalchemy.Column("digest", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("worker", sqlalchemy.BigInteger, nullable=True),
        sqlalchemy.Column("is_end", sqlalchemy.Boolean, nullable=False),
        sqlalchemy.Column("used", instant, nullable=False, server_default=now),
    )
    op.create_table(
        "canopy_trial",
        sqlalchemy.Column("trial_id", sqlalchemy.Integer, primary_key=True, autoincrement=False),
        sqlalchemy.Column("worker", sqlalchemy.BigInteger, nullable=True),
        sqlalchemy.ForeignKeyConstraint(["trial_id"], ["trials.trial_id"], ondelete="CASCADE"),
    )
    op.add_column("canopy_epoch", sqlalchemy.Column("stage", sqlalchemy.Text, nullable=True))
    op.add_column(
        "canopy_epoch",
        sqlalchemy.Column(
            "replayed", sqlalchemy.Boolean, nullable=False, server_default=sqlalchemy.false()
        ),
    )


def downgrade() -> None:
    """Removes them with their contents; checkpoint files stay."""
    op.drop_column("canopy_epoch", "replayed")
    op.drop_column("canopy_epoch", "stage")
    for table in ("trial", "checkpoint", "stage_lease", "stage", "database"):
        op.drop_table(f"canopy_{table}")
