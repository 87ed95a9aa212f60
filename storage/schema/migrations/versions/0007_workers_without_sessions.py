"""Workers without sessions: how long each may be silent, where connections are scarce."""

import sqlalchemy
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lets a worker say for how long it may be silent; those of before have sessions."""
    column = sqlalchemy.Column("silence_allowed_s", sqlalchemy.Float, nullable=True)
    op.add_column("canopy_worker", column)


def downgrade() -> None:
    """Forgets it."""
    op.drop_column("canopy_worker", "silence_allowed_s")
