"""What Alembic runs: our migrations, in the transaction that the caller began."""

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
