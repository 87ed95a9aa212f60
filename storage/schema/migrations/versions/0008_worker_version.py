"""The version of each worker, so that an upgrade can name the workers that it would disturb."""

import sqlalchemy
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lets a worker record its version; earlier workers have none."""
    op.add_column("canopy_worker", sqlalchemy.Column("version", sqlalchemy.Text, nullable=True))


def downgrade() -> None:
    """Removes it."""
    op.drop_column("canopy_worker", "version")
