"""The tables of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

#: Layout of the tables; raised when a reader of the old one would misread the new one.
SCHEMA_VERSION = 1
#: Marks a SQLite file as one of ours ("btks").
APPLICATION_ID = 0x62746B73


def tables() -> sa.MetaData:
    """Their layout; a change of it raises the schema version."""
    import sqlalchemy as sa

    metadata, real = sa.MetaData(), sa.Float

    def key() -> tuple[sa.Column[int], sa.Column[bytes]]:
        return sa.Column("context", sa.Integer, nullable=False), sa.Column("key", sa.LargeBinary, nullable=False)

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
        *key(),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("value", real),
        sa.Column("metrics", sa.LargeBinary),
        sa.Column("params", sa.Text),
        sa.Column("extra", sa.Text),
        sa.Column("finished", real, nullable=False),
        sa.Column("seconds", real),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.UniqueConstraint("context", "key"),
    )
    sa.Table(
        "leases",
        metadata,
        *key(),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("until", real, nullable=False),
        sa.PrimaryKeyConstraint("context", "key"),
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
