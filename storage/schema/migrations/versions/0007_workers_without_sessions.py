"""Workers without sessions: how long each may be silent while connections are throttled."""

import sqlalchemy
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lets a worker record how long it may be silent; earlier workers have sessions."""
    column = sqlalchemy.Column("silence_allowed_s", sqlalchemy.Float, nullable=True)
    op.add_column("canopy_worker", column)


def downgrade() -> None:
    """Removes it."""
    op.drop_column("canopy_worker", "silence_allowed_s")
