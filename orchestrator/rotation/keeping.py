"""Backups in the record: which there are, what they hold, and when another one is due."""

from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from orchestrator.rotation.home_events import BackupIntended, BackupRemoved, BackupsKept, BackupWritten
from orchestrator.rotation.recorded import Backup, Keeping, Recorded


def backed_up(
    recorded: Recorded, event: BackupIntended | BackupWritten | BackupRemoved | BackupsKept, at: datetime
) -> Recorded:
    """``recorded`` after what happened to a backup, or was said of them all."""
    match event:
        case BackupIntended():
            intended = Backup(
                id=event.backup, path=event.path, taken=at, keys=event.keys, automatic=event.automatic
            )
            return replace(recorded, backups=MappingProxyType({**recorded.backups, event.backup: intended}))
        case BackupWritten():
            written = replace(
                recorded.backups[event.backup],
                keys=event.keys,
                digest=event.digest,
                size_bytes=event.size_bytes,
            )
            return replace(recorded, backups=MappingProxyType({**recorded.backups, event.backup: written}))
        case BackupRemoved():
            left = {name: backup for name, backup in recorded.backups.items() if name != event.backup}
            return replace(recorded, backups=MappingProxyType(left))
        case BackupsKept():
            keeping = Keeping(folder=event.folder, keep=event.keep, oldest=event.oldest)
            return replace(recorded, keeping=keeping if event.folder else None)
        case _:
            assert_never(event)


def backup_due_at(recorded: Recorded, now: datetime) -> datetime | None:
    """From when on another backup is due; None: nobody has said that backups are to be kept."""
    if recorded.keeping is None:
        return None
    newest = max((backup.taken for backup in recorded.backups.values() if backup.digest), default=None)
    return now if newest is None else newest + recorded.keeping.oldest
