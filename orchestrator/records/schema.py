"""The tables, in the dialect that SQLite and PostgreSQL share.

``migrations/`` makes and changes them in real databases; a test holds the two together.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, MetaData, Table, Text

REVISION = "0001"
"""The migration that this program needs, the newest one it knows."""

metadata = MetaData()

_Number = BigInteger().with_variant(Integer(), "sqlite")

entries = Table(
    "entries",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
)
"""The ledger: one row an entry, never changed (``ledger.py``)."""

vault_meta = Table(
    "vault_meta",
    metadata,
    Column("row", Integer, CheckConstraint('"row" = 1'), primary_key=True, autoincrement=False),
    Column("vault", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("memory_kib", Integer, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("lanes", Integer, nullable=False),
    Column("proof", LargeBinary, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
)
"""How the vault is opened: the one ``sealing.Header``."""

vault_records = Table(
    "vault_records",
    metadata,
    Column("record", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
"""What the vault keeps: one ``sealing.Sealed`` a row."""
