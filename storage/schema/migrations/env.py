"""Alembic's entry point: runs our migrations in the transaction that the caller opened."""

from alembic import context

from canopy_search.storage.schema.tables import METADATA
from canopy_search.storage.schema.upgrade import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
