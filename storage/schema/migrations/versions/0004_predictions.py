"""Predictions of each stage's model for the validation images, to compare trials."""

import sqlalchemy
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables of predictions; earlier stages have none."""
    op.create_table(
        "canopy_validation",
        sqlalchemy.Column("digest", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("labels", sqlalchemy.JSON, nullable=False),
        sqlalchemy.Column("images", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("targets", sqlalchemy.LargeBinary, nullable=False),
    )
    op.create_table(
        "canopy_prediction",
        sqlalchemy.Column("key", sqlalchemy.Text, primary_key=True),
        sqlalchemy.Column("validation", sqlalchemy.Text, nullable=False),
        sqlalchemy.Column("logits", sqlalchemy.LargeBinary, nullable=False),
        sqlalchemy.ForeignKeyConstraint(["validation"], ["canopy_validation.digest"]),
    )
    # Floats do not compress, so the server should not try.
    op.execute("ALTER TABLE canopy_prediction ALTER COLUMN logits SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Removes all predictions."""
    op.drop_table("canopy_prediction")
    op.drop_table("canopy_validation")
