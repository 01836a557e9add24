"""Backups: which there are, what they hold, and whether one can be restored."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from orchestrator.operations.restore import Effects
from orchestrator.rotation.lookup import name_of
from orchestrator.rotation.recorded import Backup, Recorded
from orchestrator.rotation.visits import CredentialId
from orchestrator.views.restores import before_restoring, effects_data
from orchestrator.views.screen import Answer, grid
from orchestrator.views.text import count, instant, named, span, stamp

_STRANDS_WITHOUT = "no home is here to compare it with; give an inventory to ask the hosts: -i FILE"


def backup_answer(backup: Backup) -> Answer:
    """A backup that was taken."""
    return Answer(
        data=_backup(backup),
        body=(
            f"backup {backup.id} is {backup.path}",
            f"it holds {count(len(backup.keys), 'private key')}, the ledger, and the issuer's key",
            "its own passphrase and the vault's are both needed to restore it: keep them elsewhere",
        ),
    )


def backups_answer(recorded: Recorded, *, now: datetime) -> Answer:
    """Every backup whose file may be there, the oldest first."""
    known = sorted(recorded.backups.values(), key=lambda one: (one.taken, one.id))
    rows = [
        (
            one.id,
            span(now - one.taken),
            "whole" if one.digest else "not known",
            count(len(one.keys), "key"),
            named(tuple(name_of(recorded.credentials[key])[:10] for key in _over(recorded, one))),
            one.path,
        )
        for one in known
    ]
    keeping = recorded.keeping
    told = (
        f"before each rollout that retires a key one is written to {keeping.folder}; {keeping.keep} are kept"
        if keeping is not None
        else "none is taken by itself; see: keyrelay backup keep FOLDER"
    )
    columns = ("backup", "age", "state", "holds", "of them ended", "file")
    return Answer(
        data={
            "backups": [{**_backup(one), "ended": list(_over(recorded, one))} for one in known],
            "keeping": None
            if keeping is None
            else {
                "folder": keeping.folder,
                "keep": keeping.keep,
                "oldest_s": keeping.oldest.total_seconds(),
            },
        },
        body=(*((grid(columns, rows),) if rows else ("there are no backups",)), told),
    )


_UNSEEN = "what is not there may lie on a disk that is not mounted; if it is gone: keyrelay backup forget"


def pruned_answer(removed: Sequence[Backup], *, unseen: Sequence[Backup] = (), by_hand: int = 0) -> Answer:
    """Backups that were removed, or are not where they were written.

    ``by_hand``: how many were not even counted, for a person wrote them.
    """
    left = f"not counted: {count(by_hand, 'backup')} written by hand; --all counts and removes those, too"
    return Answer(
        data={"removed": [_backup(one) for one in removed], "unseen": [_backup(one) for one in unseen]},
        body=(
            *(tuple(f"removed: {one.id} ({one.path})" for one in removed) or ("nothing was removed",)),
            *(f"not there: {one.id} ({one.path})" for one in unseen),
            *((_UNSEEN,) if unseen else ()),
            *((left,) if by_hand else ()),
        ),
    )


def resealed_answer(recorded: Recorded, backup: Backup, over: Sequence[CredentialId]) -> Answer:
    """A backup that was sealed anew."""
    names = tuple(name_of(recorded.credentials[key]) for key in over)
    return Answer(
        data={**_backup(backup), "taken_out": list(names)},
        body=(
            f"backup {backup.id} holds {count(len(backup.keys), 'private key')} now",
            f"taken out: {named(names)}" if names else "none of its keys has ended",
        ),
    )


def check_answer(
    backup: str, taken: datetime, *, entries: int, keys: int, effects: Effects | None, visited: bool
) -> Answer:
    """A backup that can be restored, and what that would do: as hosts told that were visited, or a ledger."""
    data: dict[str, Any] = {} if effects is None else dict(effects_data(effects))
    if data and not visited:
        data["asked"] = 0
    told = (_STRANDS_WITHOUT,) if effects is None else before_restoring(effects, visited=visited)
    return Answer(
        data={"backup": backup, "taken": stamp(taken), "entries": entries, "secrets": keys, "effects": data},
        body=(
            f"backup {backup} of {instant(taken)} can be restored",
            f"its ledger is whole ({entries}), and each of {count(keys, 'secret')} was opened",
            *told,
        ),
    )


def _over(recorded: Recorded, backup: Backup) -> tuple[CredentialId, ...]:
    """The keys in a backup that nothing else keeps from being removed, or that are on their way there."""
    return tuple(
        key for key in backup.keys if recorded.credentials[key].state in {"retired", "compromised", "lost"}
    )


def _backup(backup: Backup) -> dict[str, Any]:
    return {
        "id": backup.id,
        "path": backup.path,
        "taken": stamp(backup.taken),
        "automatic": backup.automatic,
        "sha256": backup.digest or None,
        "size_bytes": backup.size_bytes,
        "keys": list(backup.keys),
    }


def held_back(recorded: Recorded) -> tuple[str, ...]:
    """A sentence for each backup that keeps keys which have ended from being removed, and how to end that."""
    return tuple(
        f"backup {one.id} still holds {count(len(over), 'key')} that ended; end that with: "
        f"keyrelay backup reseal {one.id}"
        for one in sorted(recorded.backups.values(), key=lambda one: (one.taken, one.id))
        if (over := _over(recorded, one))
    )
