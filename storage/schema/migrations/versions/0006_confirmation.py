"""Confirmations: which study retrains whose finalists, and the test scores of its runs."""

import sqlalchemy
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables of confirmations and of test scores."""
    instant = sqlalchemy.DateTime(timezone=True)
    op.create_table(
        "canopy_confirmation",
        sqlalchemy.Column("study_id", sqlalchemy.Integer, primary_key=True),
        sqlalchemy.Column("confirmed_by", sqlalchemy.Integer, nullable=False, unique=True),
        sqlalchemy.Column("top", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("seeds", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("asked", instant, nullable=False, server_default=sqlalchemy.func.now()),
        sqlalchemy.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
        sqlalchemy.ForeignKeyConstraint(["confirmed_by"], ["studies.study_id"], ondelete="CASCADE"),
    )
    op.create_table(
        "canopy_test",
        sqlalchemy.Column("trial_id", sqlalchemy.Integer, primary_key=True),
        sqlalchemy.Column("scores", sqlalchemy.JSON, nullable=False),
        sqlalchemy.Column("scored", instant, nullable=False, server_default=sqlalchemy.func.now()),
        sqlalchemy.ForeignKeyConstraint(["trial_id"], ["trials.trial_id"], ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Removes the confirmations; the runs stay as trials of their own studies."""
    op.drop_table("canopy_test")
    op.drop_table("canopy_confirmation")
