"""The ClearML mirror: what it has sent, and the state of its server."""

import sqlalchemy
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables of mirrors and of mirrored tasks."""
    instant = sqlalchemy.DateTime(timezone=True)
    op.create_table(
        "canopy_clearml_study",
        sqlalchemy.Column("study_id", sqlalchemy.Integer, primary_key=True),
        sqlalchemy.Column("server", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("project", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("web", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("api_version", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("problem", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("since", instant, nullable=True),
        sqlalchemy.Column("used", instant, nullable=False, server_default=sqlalchemy.func.now()),
        sqlalchemy.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
    )
    op.create_table(
        "canopy_clearml_task",
        sqlalchemy.Column("study_id", sqlalchemy.Integer, primary_key=True),
        sqlalchemy.Column("server", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("number", sqlalchemy.Integer, primary_key=True),
        sqlalchemy.Column("task", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("state", sqlalchemy.Text, nullable=True),
        sqlalchemy.Column("epochs", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("lines", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("lines_unsure", sqlalchemy.Boolean, nullable=False),
        sqlalchemy.Column("sent", sqlalchemy.JSON, nullable=False),
        sqlalchemy.Column("problem", sqlalchemy.Text, nullable=True),
        sqlalchemy.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
    )


def downgrade() -> None:
    """Removes what was mirrored; the tasks of a server are found again by their tags."""
    op.drop_table("canopy_clearml_task")
    op.drop_table("canopy_clearml_study")
