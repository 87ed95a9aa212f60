from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import METADATA
from canopy_search.storage.schema.upgrade import HEAD, VERSION_TABLE, migration_config


def differences(connection: sqlalchemy.Connection, metadata: sqlalchemy.MetaData) -> list[Any]:
    names = {name for name in METADATA.tables if name.startswith("canopy_")}

    def is_ours(thing: Any, name: str, kind: str, reflected: bool, other: Any) -> bool:
        return kind != "table" or name in names

    options = {"include_object": is_ours, "compare_type": True, "compare_server_default": True}
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def test_tables_equal_migrations(database: Database) -> None:
    with database.engine.connect() as connection:
        assert differences(connection, METADATA) == []


def test_a_difference_would_be_seen(database: Database) -> None:
    changed = sqlalchemy.MetaData()
    for table in METADATA.tables.values():
        table.to_metadata(changed)
    changed.tables["canopy_epoch"].append_column(sqlalchemy.Column("new", sqlalchemy.Integer))
    with database.engine.connect() as connection:
        assert [each[0] for each in differences(connection, changed)] == ["add_column"]


def test_foreign_keys_cascade(database: Database) -> None:
    inspector = sqlalchemy.inspect(database.engine)
    for table, referred in (("canopy_study", "studies"), ("canopy_epoch", "trials")):
        [key] = inspector.get_foreign_keys(table)
        assert (key["referred_table"], key["options"]) == (referred, {"ondelete": "CASCADE"})


def test_head_is_the_last_migration() -> None:
    assert ScriptDirectory.from_config(migration_config()).get_heads() == [HEAD]


def test_down_and_up_again(database: Database) -> None:
    config = migration_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert not sqlalchemy.inspect(connection).has_table("canopy_study")
        command.upgrade(config, "head")
        assert differences(connection, METADATA) == []


def test_optuna_keeps_its_own_version_table(database: Database) -> None:
    tables = sqlalchemy.inspect(database.engine).get_table_names()
    assert {VERSION_TABLE, "alembic_version", "studies"} <= set(tables)


@pytest.mark.parametrize("table", [VERSION_TABLE, "alembic_version"])
def test_each_has_its_own_revision(database: Database, table: str) -> None:
    query = sqlalchemy.text(f"SELECT version_num FROM {table}")  # noqa: S608 - our names
    with database.engine.connect() as connection:
        assert (connection.scalar(query) == HEAD) == (table == VERSION_TABLE)
