"""The vault: private keys in the ledger's database, each sealed for its name and purpose (``sealing.py``)."""

from dataclasses import asdict, dataclass
from typing import Self

from sqlalchemy import Connection, delete, insert, select

from orchestrator.errors import VaultError
from orchestrator.keys.material import Random
from orchestrator.keys.secret import Secret
from orchestrator.records.database import Database
from orchestrator.records.schema import vault_meta, vault_records
from orchestrator.records.sealing import Cost, Header, Lock, Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlVault:
    """The port ``Vault`` over a database. Threads may share it.

    Attributes:
        lock: opened with the passphrase once, when the vault was.
        random: gives data keys and nonces.
    """

    database: Database
    lock: Lock
    random: Random

    @classmethod
    def create(cls, database: Database, passphrase: Secret, *, random: Random) -> Self:
        """The vault of a database that has none yet.

        Raises:
            VaultError: there is one already, the passphrase is empty, or the database cannot be written.
        """
        header, lock = Lock.make(passphrase, random=random)
        with database.writing(failing_as=VaultError) as connection:
            if connection.execute(select(vault_meta.c.row)).first() is not None:
                raise VaultError(f"{database.path}: there is a vault already")
            cost = asdict(header.cost)
            connection.execute(
                insert(vault_meta).values(
                    row=1,
                    vault=header.vault,
                    salt=header.salt,
                    proof=header.proof,
                    checksum=header.checksum,
                    **cost,
                ),
            )
        return cls(database=database, lock=lock, random=random)

    @classmethod
    def unlock(cls, database: Database, passphrase: Secret, *, random: Random) -> Self:
        """The vault of a database, opened.

        Raises:
            VaultError: there is none, its header is damaged, or the passphrase is wrong; says which.
        """
        try:
            with database.reading(failing_as=VaultError) as connection:
                header = _header(connection)
            lock = Lock.open_with(passphrase, header)
        except VaultError as error:
            raise type(error)(f"vault in {database.path}: {error.message}", hint=error.hint) from error
        return cls(database=database, lock=lock, random=random)

    def put(self, record: str, purpose: str, secret: Secret) -> None:
        """Seals and keeps a secret; does nothing when the same one is kept there for the same purpose.

        Raises:
            VaultError: another secret, or one for another purpose, is kept under that name.
        """
        sealed = self.lock.seal(secret, record=record, purpose=purpose, random=self.random)
        with self.database.writing(failing_as=VaultError) as connection:
            kept = _find(connection, record, purpose)
            if kept is None:
                connection.execute(
                    insert(vault_records).values(
                        record=record,
                        version=sealed.version,
                        purpose=purpose,
                        wrapped_key=sealed.wrapped_key,
                        payload=sealed.payload,
                    ),
                )
            elif self.lock.open(kept, record=record, purpose=purpose) != secret:
                raise VaultError(f"another secret is kept as {record}")

    def open(self, record: str, purpose: str) -> Secret:
        """The secret kept under ``record``; its seal proves the purpose as well.

        Raises:
            VaultError: there is none, it is kept for another purpose, or it was tampered with.
        """
        with self.database.reading(failing_as=VaultError) as connection:
            kept = _find(connection, record, purpose)
        if kept is None:
            raise VaultError(f"nothing is kept as {record}")
        return self.lock.open(kept, record=record, purpose=purpose)

    def open_all(self) -> frozenset[str]:
        """Opens every secret that is kept, to prove that all can be; returns their names.

        Raises:
            VaultError: names the first that cannot.
        """
        with self.database.reading(failing_as=VaultError) as connection:
            rows = connection.execute(select(vault_records.c.record, vault_records.c.purpose)).all()
        for row in rows:
            self.open(row.record, row.purpose)
        return frozenset(row.record for row in rows)

    def holds(self, record: str) -> bool:
        """Whether something is kept under ``record``, sound or not."""
        with self.database.reading(failing_as=VaultError) as connection:
            found = connection.execute(select(vault_records.c.record).where(vault_records.c.record == record))
            return found.first() is not None

    def destroy(self, *records: str) -> None:
        """Removes what is kept under these names from every file of the database.

        ``secure_delete`` alone is not enough: rows that SQLite has moved between pages can leave copies
        behind, in the unused part of pages that are still in use. So the table is emptied, which zeroes all
        of its pages, and the other records are put back, in one transaction for all that go. Where this fails
        after the commit, it is to be called again: only its end proves that nothing is left.

        Raises:
            VaultError: the database cannot be written, or another process is reading it.
        """
        with self.database.writing(failing_as=VaultError) as connection:
            rows = connection.execute(select(vault_records).order_by(vault_records.c.record)).mappings().all()
            others = [dict(row) for row in rows if row["record"] not in records]
            if len(others) < len(rows):
                connection.execute(delete(vault_records))
                if others:
                    connection.execute(insert(vault_records), others)
        self.database.scrub(failing_as=VaultError)


def _header(connection: Connection) -> Header:
    row = connection.execute(select(vault_meta)).one_or_none()
    if row is None:
        raise VaultError("there is none", hint="run: keyrelay init")
    return Header(
        vault=row.vault,
        salt=row.salt,
        cost=Cost(memory_kib=row.memory_kib, iterations=row.iterations, lanes=row.lanes),
        proof=row.proof,
        checksum=row.checksum,
    )


def _find(connection: Connection, record: str, purpose: str) -> Sealed | None:
    row = connection.execute(select(vault_records).where(vault_records.c.record == record)).one_or_none()
    if row is None:
        return None
    if row.purpose != purpose:
        raise VaultError(f"{record} is kept for {row.purpose!r}, not for {purpose!r}")
    if not (isinstance(row.wrapped_key, bytes) and isinstance(row.payload, bytes)):
        raise VaultError(f"{record} is damaged", hint="restore it from a backup")
    return Sealed(version=row.version, wrapped_key=row.wrapped_key, payload=row.payload)
