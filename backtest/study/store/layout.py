"""Tables of a store, and the version of their layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy as sa

#: Version of the layout; increased when readers of the old one would misread the new one.
SCHEMA_VERSION = 2
#: Versions that are migrated to this one when a store is opened.
FORMER_VERSIONS = (1,)
#: Marks a SQLite file as a store ("btks").
APPLICATION_ID = 0x62746B73


def tables() -> sa.MetaData:
    """The tables; a change of them increases the schema version."""
    import sqlalchemy as sa

    metadata, real = sa.MetaData(), sa.Float

    def identity() -> tuple[sa.Column[int], sa.Column[bytes]]:
        return sa.Column("context", sa.Integer, nullable=False), sa.Column("digest", sa.LargeBinary, nullable=False)

    sa.Table(
        "contexts",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("created", real, nullable=False),
    )
    sa.Table(
        "results",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        *identity(),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("value", real),
        sa.Column("metrics", sa.LargeBinary),
        sa.Column("params", sa.Text),
        sa.Column("extra", sa.Text),
        sa.Column("finished", real, nullable=False),
        sa.Column("seconds", real),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.UniqueConstraint("context", "digest"),
    )
    sa.Table(
        "leases",
        metadata,
        *identity(),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("until", real, nullable=False),
        sa.PrimaryKeyConstraint("context", "digest"),
        sqlite_with_rowid=False,
    )
    sa.Table(
        "blocks",
        metadata,
        sa.Column("context", sa.Integer, nullable=False),
        sa.Column("block", sa.LargeBinary, nullable=False),
        sa.Column("kept", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("context", "block"),
        sqlite_with_rowid=False,
    )
    return metadata


def create_tables(engine: sa.Engine, run: Callable[[str], Any]) -> None:
    """Create the tables in an empty file, inside a transaction."""
    from sqlalchemy.schema import CreateTable

    for table in tables().sorted_tables:
        run(str(CreateTable(table).compile(engine)))
    run(f"PRAGMA application_id = {APPLICATION_ID}")
    run(f"PRAGMA user_version = {SCHEMA_VERSION}")
