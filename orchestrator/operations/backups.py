"""Backups of the home: taken, counted, sealed anew, removed. A backup holds the keys that are in it (S3).

What a backup may hold is written before a byte of it is, and it is written while others hand over: where the
vault has got another key meanwhile, the ledger is told, and the backup begins again.
"""

from contextlib import suppress
from dataclasses import dataclass

from orchestrator.errors import BackupError, ConflictError, UsageError
from orchestrator.keys.material import Random
from orchestrator.policy.desired import PlaybookName
from orchestrator.ports import BackupStore, Clock, Ledger, Ports
from orchestrator.rotation.events import Event
from orchestrator.rotation.home_events import BackupIntended, BackupRemoved, BackupWritten
from orchestrator.rotation.lifecycle import GONE
from orchestrator.rotation.recorded import Backup, BackupId, Recorded
from orchestrator.rotation.visits import CredentialId

_TRIES = 20
"""A rollout makes its keys within moments; a backup that has to begin this often is not meant to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What backups need."""

    ledger: Ledger
    store: BackupStore
    clock: Clock
    random: Random


def take_backup(shelf: Shelf, path: str = "", *, folder: str = "", automatic: bool = False) -> Backup:
    """Take a backup of the home as it is at one instant.

    Args:
        shelf: where from.
        path: of the new file, absolute; empty: a name of its own in ``folder``.
        folder: absolute.
        automatic: whether it is one of those that are counted.

    Raises:
        BackupError: it cannot be written.
    """
    backup, now = BackupId(shelf.random(8).hex()), shelf.clock.now()
    where = path or f"{folder}/keyrelay-{now:%Y%m%dT%H%M%SZ}-{backup}.backup"
    for _ in range(_TRIES):
        kept = shelf.store.kept()
        keys = tuple(sorted(CredentialId(name) for name in kept if name in _known(shelf)))
        _write(shelf, BackupIntended(backup=backup, path=where, keys=keys, automatic=automatic))
        try:
            written = shelf.store.write(where, backup, taken=now, covering=kept)
        except BackupError:
            _write(shelf, BackupRemoved(backup=backup, reason="it could not be written"))
            raise
        if written is not None:
            digest, size = written
            event = BackupWritten(backup=backup, keys=keys, digest=digest, size_bytes=size)
            return _write(shelf, event).backups[backup]
    _write(shelf, BackupRemoved(backup=backup, reason="keys were made faster than it could be written"))
    raise BackupError(f"{where}: keys were made faster than it could be written", hint="run it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What came of removing the oldest backups.

    Attributes:
        unseen: those whose file was not found. The disk that it lies on may not be mounted, so they count as
            holders until a person says that they are gone.
    """

    removed: tuple[Backup, ...]
    unseen: tuple[Backup, ...]


def prune(shelf: Shelf, *, keep: int, automatic: bool) -> Pruned:
    """Remove the oldest backups until so many are left."""
    counted = [b for b in _oldest_first(shelf.ledger.read()) if b.automatic or not automatic]
    over = counted[: max(0, len(counted) - keep)]
    unseen: list[Backup] = []
    for backup in over:
        if shelf.store.remove(backup.path) or not backup.digest:
            _write(shelf, BackupRemoved(backup=backup.id, reason=f"{keep} are kept"))
        else:
            unseen.append(backup)
    return Pruned(removed=tuple(one for one in over if one not in unseen), unseen=tuple(unseen))


def remove_backup(shelf: Shelf, backup: Backup, *, reason: str) -> None:
    """Remove a backup's file, and then write that it is gone, at a person's word also where none is."""
    shelf.store.remove(backup.path)
    _write(shelf, BackupRemoved(backup=backup.id, reason=reason))


def reseal_backup(shelf: Shelf, backup: Backup) -> tuple[CredentialId, ...]:
    """Seal a backup anew without the keys that have ended; returns which these were.

    Raises:
        BackupError: its file cannot be read or written.
    """
    recorded = shelf.ledger.read()
    over = tuple(key for key in backup.keys if recorded.credentials[key].state in GONE)
    if over:
        digest, size = shelf.store.reseal(backup.path, without=over)
        left = tuple(key for key in backup.keys if key not in over)
        _write(shelf, BackupWritten(backup=backup.id, keys=left, digest=digest, size_bytes=size))
    return over


def backup_named(recorded: Recorded, name: str) -> Backup:
    """The backup of an id, or of an unambiguous beginning of one.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [backup for backup in recorded.backups.values() if backup.id.startswith(name)]
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} backups begin with {name!r}" if found else f"there is no backup {name!r}",
            hint="see: keyrelay backup list",
        )
    return found[0]


def before_retiring(ports: Ports, recorded: Recorded, playbook: PlaybookName) -> Recorded:
    """Take the automatic backup of a rollout that will retire a key, once; a leak waits for no backup.

    Raises:
        BackupError: it cannot be written; nothing of the rollout has been done yet.
    """
    keeping, rollout = recorded.keeping, recorded.running(playbook)
    if keeping is None or ports.backups is None or rollout is None:
        return recorded
    retiring = {c for server, target in rollout.targets.items() for c in recorded.may_hold(server) - {target}}
    taken = [b for b in recorded.backups.values() if b.automatic and b.digest and b.taken >= rollout.started]
    if taken or not retiring:
        return recorded
    shelf = Shelf(ledger=ports.ledger, store=ports.backups, clock=ports.clock, random=ports.entropy)
    leaked = any(recorded.credentials[credential].compromised for credential in retiring)
    with suppress(*([BackupError] if leaked else [])):
        take_backup(shelf, folder=keeping.folder, automatic=True)
        prune(shelf, keep=keeping.keep, automatic=True)
    return ports.ledger.read()


def _known(shelf: Shelf) -> frozenset[str]:
    return frozenset(shelf.ledger.read().credentials)


def _oldest_first(recorded: Recorded) -> list[Backup]:
    return sorted(recorded.backups.values(), key=lambda backup: (backup.taken, backup.id))


def _write(shelf: Shelf, event: Event) -> Recorded:
    """Write on top of whatever others have written meanwhile."""
    for _ in range(_TRIES):
        with suppress(ConflictError):
            return shelf.ledger.append([event], onto=shelf.ledger.read(), at=shelf.clock.now())
    return shelf.ledger.append([event], onto=shelf.ledger.read(), at=shelf.clock.now())
