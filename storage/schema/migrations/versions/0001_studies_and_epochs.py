"""The record of each study, and the metrics of every epoch of every trial."""

import sqlalchemy
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables of the first release."""
    op.create_table(
        "canopy_study",
        sqlalchemy.Column("study_id", sqlalchemy.Integer, primary_key=True, autoincrement=False),
        sqlalchemy.Column("record", sqlalchemy.JSON, nullable=False),
        sqlalchemy.Column(
            "created",
            sqlalchemy.DateTime(timezone=True),
            nullable=False,
            server_default=sqlalchemy.func.now(),
        ),
        sqlalchemy.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
    )
    op.create_table(
        "canopy_epoch",
        sqlalchemy.Column("trial_id", sqlalchemy.Integer, primary_key=True, autoincrement=False),
        sqlalchemy.Column("epoch", sqlalchemy.Integer, primary_key=True, autoincrement=False),
        sqlalchemy.Column("metrics", sqlalchemy.JSON, nullable=False),
        sqlalchemy.Column(
            "times_trained", sqlalchemy.Integer, nullable=False, server_default=sqlalchemy.text("1")
        ),
        sqlalchemy.Column(
            "recorded",
            sqlalchemy.DateTime(timezone=True),
            nullable=False,
            server_default=sqlalchemy.func.now(),
        ),
        sqlalchemy.ForeignKeyConstraint(["trial_id"], ["trials.trial_id"], ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Removes them with their contents."""
    op.drop_table("canopy_epoch")
    op.drop_table("canopy_study")
