"""The tables are those of release 0.1.0, whose databases are still used."""

import gzip
from typing import Any

import sqlalchemy

from canopy_search.storage.connection.urls import parse_database_url
from canopy_search.storage.database import Database
from canopy_search.storage.schema.prepare import HEAD
from canopy_search.storage.schema.tables import OUR_TABLES, REVISION
from tests.reading_docs import ROOT
from tests.shared_servers import execute

DUMP = ROOT / "tests" / "integration" / "release_0_1_0" / "study.sql.gz"
COLUMNS = """
    SELECT table_name, column_name, data_type, character_maximum_length, is_nullable,
        replace(column_default, 'public.', '')
    FROM information_schema.columns WHERE table_schema = 'public'
"""
INDEXES = """
    SELECT tablename, replace(indexdef, 'public.', '') FROM pg_indexes WHERE schemaname = 'public'
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
"""


def schema_of(engine: sqlalchemy.Engine) -> list[set[Any]]:
    with engine.connect() as connection:
        return [
            set(connection.execute(sqlalchemy.text(query)).all())
            for query in (COLUMNS, INDEXES, CONSTRAINTS)
        ]


def test_they_are_those_of_the_release(database: Database, empty_database_url: str) -> None:
    execute(empty_database_url, gzip.decompress(DUMP.read_bytes()).decode())
    release = sqlalchemy.create_engine(parse_database_url(empty_database_url))
    ours, theirs = schema_of(database.engine), schema_of(release)
    release.dispose()
    assert {REVISION.name, *(table.name for table in OUR_TABLES)} <= {row[0] for row in ours[0]}
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other


def test_ours_and_optunas_have_each_a_revision(database: Database) -> None:
    with database.engine.connect() as connection:
        ours = connection.scalar(sqlalchemy.select(REVISION.c.version_num))
        optunas = connection.scalar(sqlalchemy.text("SELECT version_num FROM alembic_version"))
    assert ours == HEAD != optunas
