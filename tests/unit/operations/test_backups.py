"""Backups as holders of keys: told before they are written, counted, sealed anew, and removed."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from orchestrator.errors import BackupError
from orchestrator.operations.backups import Shelf, prune, remove_backup, reseal_backup, take_backup
from orchestrator.operations.compromise import end_key
from orchestrator.operations.due import due
from orchestrator.operations.queries import holders
from orchestrator.rotation.home_events import BackupsKept
from orchestrator.rotation.lifecycle import KeyState
from tests.fakes import FakeVault
from tests.world import AGENTS, SERVERS, World, desired

WANTED = desired(servers=SERVERS[:1], agents=AGENTS[:1])


@dataclass(slots=True)
class Files:
    """The port ``BackupStore`` in a dictionary.

    Attributes:
        files: the secrets in each file, by path.
        fails: why nothing can be written.
        meanwhile: what happens just before a file is written.
    """

    vault: FakeVault
    files: dict[str, frozenset[str]] = field(default_factory=dict)
    fails: str = ""
    meanwhile: Callable[[], None] = lambda: None

    def kept(self) -> frozenset[str]:
        return frozenset(self.vault.kept)

    def write(
        self, path: str, name: str, *, taken: datetime, covering: Collection[str]
    ) -> tuple[str, int] | None:
        del name, taken
        self.meanwhile()
        if self.fails:
            raise BackupError(self.fails)
        if not self.kept() <= set(covering):
            return None
        self.files[path] = self.kept()
        return "f" * 64, 1000

    def reseal(self, path: str, *, without: Collection[str]) -> tuple[str, int]:
        self.files[path] -= set(without)
        return "e" * 64, 900

    def remove(self, path: str) -> bool:
        return self.files.pop(path, None) is not None


def shelf(world: World, files: Files) -> Shelf:
    return Shelf(ledger=world.ledger, store=files, clock=world.clock, random=world.entropy)


def settled() -> tuple[World, Files]:
    world = World()
    files = Files(world.vault)
    world.ports = replace(world.ports, backups=files)
    world.apply(WANTED)
    return world, files


def keep(world: World, number: int) -> None:
    event = BackupsKept(folder="/shelf", keep=number, oldest=timedelta(days=30))
    world.ledger.append([event], onto=world.recorded, at=world.clock.now())


def target(world: World) -> str:
    found = world.recorded.servers[SERVERS[0]].target
    assert found is not None
    return found


def test_the_ledger_says_what_a_backup_holds_before_it_is_written() -> None:
    world, files = settled()
    said: list[bool] = []
    key = target(world)
    files.meanwhile = lambda: said.append(any(key in b.keys for b in world.recorded.backups.values()))

    backup = take_backup(shelf(world, files), "/a")

    assert said == [True]
    assert (backup.keys, backup.digest, backup.path) == ((key,), "f" * 64, "/a")
    held = [
        (one.host, one.standing) for one in holders(world.recorded, key) if one.host.startswith("backup:")
    ]
    assert held == [(f"backup:{backup.id}", "/a")]


def test_a_backup_begins_again_where_the_vault_has_got_another_key_meanwhile() -> None:
    world, files = settled()
    old = target(world)

    def renew() -> None:
        files.meanwhile = lambda: None
        world.apply(WANTED, new_key=True, wait=timedelta(0))

    files.meanwhile = renew
    backup = take_backup(shelf(world, files), "/a")

    assert set(backup.keys) == {old, target(world)} == set(files.files["/a"]) - {"issuer"}


def test_a_backup_that_cannot_be_written_holds_nothing() -> None:
    world, files = settled()
    files.fails = "the disk is full"
    with pytest.raises(BackupError, match="the disk is full"):
        take_backup(shelf(world, files), "/a")
    assert not world.recorded.backups


def test_a_key_is_removed_only_when_no_backup_holds_it() -> None:
    for end in (
        lambda world, files, backup: remove_backup(shelf(world, files), backup, reason="it is gone"),
        lambda world, files, backup: reseal_backup(shelf(world, files), backup),
        lambda world, files, _: prune(shelf(world, files), keep=0, automatic=False),
    ):
        world, files = settled()
        old = target(world)
        backup = take_backup(shelf(world, files), "/a")
        world.apply(WANTED, new_key=True)
        key = world.recorded.credentials[old]  # type: ignore[index]
        assert (key.state, key.in_vault) == (KeyState.RETIRED, False)
        end(world, files, backup)
        assert world.recorded.credentials[old].state is KeyState.REMOVED  # type: ignore[index]
        assert all(old not in names for names in files.files.values())


def test_a_backup_that_is_not_there_when_the_oldest_go_may_lie_on_a_disk_that_is_not_mounted() -> None:
    world, files = settled()
    old = target(world)
    away = take_backup(shelf(world, files), "/mnt/a")
    world.apply(WANTED, new_key=True)
    files.files.clear()
    take_backup(shelf(world, files), "/mnt/b")

    pruned = prune(shelf(world, files), keep=0, automatic=False)

    assert [one.path for one in pruned.removed] == ["/mnt/b"]
    assert pruned.unseen == (away,)
    assert world.recorded.credentials[old].state is KeyState.RETIRED  # type: ignore[index]
    remove_backup(shelf(world, files), away, reason="the disk is broken")
    assert world.recorded.credentials[old].state is KeyState.REMOVED  # type: ignore[index]


def test_a_leaked_key_in_a_backup_stays_compromised_until_it_is_taken_out() -> None:
    world, files = settled()
    old = target(world)
    public = world.recorded.credentials[old].public  # type: ignore[index]
    assert public is not None
    backup = take_backup(shelf(world, files), "/a")
    world.eye.leaked.add(public.spki_digest)
    end_key(world.ports, public.thumbprint, lost=False, reason="it leaked", wait=timedelta(hours=1))
    assert world.recorded.credentials[old].state is KeyState.COMPROMISED  # type: ignore[index]
    assert reseal_backup(shelf(world, files), backup) == (old,)
    assert world.recorded.credentials[old].state is KeyState.REMOVED  # type: ignore[index]


def test_a_rollout_that_retires_a_key_is_preceded_by_a_backup_and_the_oldest_go() -> None:
    world, files = settled()
    keep(world, 2)
    for _ in range(3):
        world.apply(WANTED, new_key=True)
        world.clock.wait_until(world.clock.now() + timedelta(days=1))
    assert len(files.files) == 2
    assert {backup.path for backup in world.recorded.backups.values()} == set(files.files)
    newest = max(world.recorded.backups.values(), key=lambda backup: backup.taken)
    assert target(world) not in newest.keys
    world.apply(WANTED)
    assert len(files.files) == 2


def test_a_rollout_does_not_begin_without_its_backup_but_a_leak_waits_for_none() -> None:
    world, files = settled()
    keep(world, 2)
    files.fails = "the disk is full"
    before = dict(world.fleet.hosts)
    with pytest.raises(BackupError, match="the disk is full"):
        world.apply(WANTED, new_key=True)
    assert world.fleet.hosts == before
    assert world.recorded.lease is None
    old = target(world)
    in_use = world.live_key(SERVERS[0])
    public = next(c.public for c in world.recorded.credentials.values() if c.public is not None)
    world.eye.leaked.add(public.spki_digest)
    end_key(world.ports, public.thumbprint, lost=False, reason="it leaked", wait=timedelta(hours=1))
    assert world.live_key(SERVERS[0]) != in_use
    del old


def test_a_backup_that_is_too_old_is_due() -> None:
    world, files = settled()
    assert not due(world.ledger, world.clock)
    keep(world, 2)
    assert due(world.ledger, world.clock).backup == world.clock.now()
    take_backup(shelf(world, files), "/a")
    assert not due(world.ledger, world.clock)
    world.clock.wait_until(world.clock.now() + timedelta(days=31))
    found = due(world.ledger, world.clock).backup
    assert found is not None
    assert world.clock.now() - found == timedelta(days=1)
