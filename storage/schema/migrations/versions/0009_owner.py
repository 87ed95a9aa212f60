"""The user who started each study."""

import sqlalchemy
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lets a study record its owner; earlier studies have none."""
    op.add_column("canopy_study", sqlalchemy.Column("owner", sqlalchemy.Text, nullable=True))


def downgrade() -> None:
    """Removes it."""
    op.drop_column("canopy_study", "owner")
