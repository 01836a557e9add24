"""Keys made and imported ahead of their handover, and copies of keys that leave."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePath

import pytest

from orchestrator.errors import KeyrelayError, RefusedError, UsageError
from orchestrator.inventory.model import HostName
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.intake import Taken, take
from orchestrator.keys.formats.reading import read
from orchestrator.keys.formats.writing import write_private
from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret
from orchestrator.operations.credentials import (
    Store,
    copies_of,
    create,
    destroyed,
    drop,
    export,
    take_in,
)
from orchestrator.operations.queries import OUTSIDE, holders, holdings
from orchestrator.policy.desired import Desired, Origin, Policy
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Credential
from tests.fakes import NOON, SeededEntropy
from tests.key_files import MADE_AT, certified
from tests.mortal import KilledError
from tests.world import AGENTS, SERVERS, World, desired

SERVER = SERVERS[0]
ONE = desired(servers=SERVERS[:1], agents=AGENTS[:2])
TWO = desired(servers=SERVERS[:2], agents=AGENTS[:2])
SHARED = desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:1])
PASSWORD = Secret(b"correct horse")
assert MADE_AT == NOON


@pytest.fixture
def world() -> World:
    return World()


def store_of(world: World) -> Store:
    return Store(ledger=world.ledger, vault=world.vault, clock=world.clock, entropy=world.entropy)


def imported(world: World, wanted: Desired, taken: Taken, *, certify_anew: bool = False) -> Credential:
    return take_in(store_of(world), wanted, wanted.scopes[0], taken, certify_anew=certify_anew)


def existing(*names: str, lifetime: timedelta = timedelta(days=90), seed: str = "") -> Taken:
    """A key with a certificate from elsewhere, as it comes out of a file."""
    made = certified(Algorithm.ED25519, *names, lifetime=lifetime, seed=seed)
    file = write_private(
        Format.PKCS12, made.pair, made.certificates, PASSWORD, name="old", random=SeededEntropy()
    )
    return take([read(file.reveal(), PASSWORD)], at=MADE_AT)


def spki(credential: Credential) -> str:
    assert credential.public is not None
    return credential.public.spki_digest


def exported(world: World, key: str, *, form: Format = Format.PEM, server: HostName | None = None) -> bytes:
    done = export(
        store_of(world),
        key,
        form=form,
        file="/tmp/key",
        purpose="for the balancer",
        password=PASSWORD,
        server=server,
    )
    return done.data.reveal()


def test_a_key_that_was_made_ahead_is_the_next_one_of_its_scope_and_of_no_other(world: World) -> None:
    world.apply(TWO)
    before = {server: world.live_key(server) for server in SERVERS[:2]}
    made = create(store_of(world), TWO, TWO.scopes[0])
    assert made.state is KeyState.GENERATED
    assert world.vault.holds(made.id)
    applied = world.apply(TWO)
    assert applied.complete
    assert "server:server-1: a key that was made ahead waits for it" in applied.prepared.plan.reasons
    assert world.live_key(SERVERS[0]) == spki(made) != before[SERVERS[0]]
    assert world.live_key(SERVERS[1]) == before[SERVERS[1]]
    assert world.recorded.credentials[made.id].state is KeyState.ACTIVE
    assert not world.recorded.credentials[made.id].awaits
    assert world.apply(TWO).prepared.plan.start is None


def test_a_key_that_was_made_ahead_is_the_first_one_too(world: World) -> None:
    made = create(store_of(world), ONE, ONE.scopes[0])
    world.apply(ONE)
    assert world.live_key(SERVER) == spki(made)
    assert len(world.recorded.credentials) == 1


def test_an_imported_key_goes_the_way_of_every_other_with_its_own_certificate(world: World) -> None:
    world.apply(ONE)
    taken = existing("server-1")
    made = imported(world, ONE, taken)
    assert taken.chain is not None
    assert made.not_after == taken.chain.leaf.not_after
    assert world.apply(ONE).complete
    assert world.live_key(SERVER) == taken.pair.public.spki_digest
    assert world.recorded.credentials[made.id].certificates[SERVER] == taken.chain.leaf.certificate.pem
    assert world.recorded.credentials[made.id].chains[SERVER].count("BEGIN") == 1
    assert world.apply(ONE).prepared.plan.start is None
    assert not world.orphans()


def test_an_imported_key_is_replaced_when_it_is_due(world: World) -> None:
    made = imported(world, ONE, existing("server-1"))
    world.apply(ONE)
    world.clock.wait_until(NOON + timedelta(days=61))
    world.apply(ONE)
    assert world.recorded.credentials[made.id].state is KeyState.REMOVED


def test_a_certificate_may_be_left_out_of_an_import(world: World) -> None:
    made = imported(world, ONE, existing("other.example"), certify_anew=True)
    assert made.certificates == {}
    assert made.not_after - made.not_before == ONE.certificate.lifetime
    world.apply(ONE)
    assert world.live_key(SERVER) == spki(made)


@pytest.mark.parametrize(
    ("wanted", "taken", "words"),
    [
        (ONE, existing("other.example"), "is for other.example; server:server-1 needs server-1"),
        (SHARED, existing("server-1"), "all needs server-2"),
        (ONE, existing("server-1", lifetime=timedelta(minutes=10)), "due for a successor at once"),
        (
            replace(ONE, key=replace(ONE.key, algorithm=Algorithm.RSA_3072)),
            existing("server-1"),
            "asks for rsa-3072",
        ),
        (replace(ONE, key=replace(ONE.key, origin=Origin.SERVER)), existing("server-1"), "never leave"),
    ],
)
def test_a_key_that_would_be_replaced_at_once_is_not_imported(
    world: World, wanted: Desired, taken: Taken, words: str
) -> None:
    if words.startswith("due"):
        world.clock.wait_until(NOON + timedelta(minutes=9))
    with pytest.raises(RefusedError, match=words):
        imported(world, wanted, taken)
    assert not world.recorded.credentials


def test_a_key_that_the_ledger_knows_is_not_imported_again(world: World) -> None:
    taken = existing("server-1")
    imported(world, ONE, taken)
    with pytest.raises(RefusedError, match="knows this key already: it is generated in server:server-1"):
        imported(world, ONE, taken)


def test_what_waits_for_a_scope_gives_way_to_what_is_made_after_it(world: World) -> None:
    first = create(store_of(world), ONE, ONE.scopes[0])
    second = create(store_of(world), ONE, ONE.scopes[0])
    assert world.recorded.credentials[first.id].state is KeyState.REMOVED
    assert not world.vault.holds(first.id)
    world.apply(ONE)
    assert world.live_key(SERVER) == spki(second)


def test_a_key_that_waits_can_be_dropped_and_no_other(world: World) -> None:
    world.apply(ONE)
    (used,) = world.recorded.credentials
    made = create(store_of(world), ONE, ONE.scopes[0])
    assert drop(store_of(world), made.id, reason="a slip").state is KeyState.REMOVED
    assert not world.vault.holds(made.id)
    assert world.apply(ONE).prepared.plan.start is None
    with pytest.raises(RefusedError, match="does not wait for a rollout: it is active"):
        drop(store_of(world), used, reason="a slip")


def test_a_key_that_waits_too_long_is_passed_over(world: World) -> None:
    world.apply(ONE)
    made = create(store_of(world), ONE, ONE.scopes[0])
    world.clock.wait_until(NOON + timedelta(days=300))
    world.apply(ONE)
    assert world.live_key(SERVER) != spki(made)


@pytest.mark.parametrize("after", range(6))
def test_an_import_that_is_cut_off_is_never_mistaken_for_another_key(world: World, after: int) -> None:
    taken = existing("server-1")
    world.life.dies_after(after)
    store = Store(
        ledger=world.ports.ledger, vault=world.ports.vault, clock=world.clock, entropy=world.entropy
    )
    with suppress(KilledError):
        take_in(store, ONE, ONE.scopes[0], taken, certify_anew=False)
    world.life.rise()
    world.apply(ONE)
    whole = any(c.public == taken.pair.public and c.certificates for c in world.recorded.credentials.values())
    assert (world.live_key(SERVER) == taken.pair.public.spki_digest) == whole
    held = {c.id for c in world.recorded.credentials.values() if c.in_vault}
    assert {name for name in world.vault.kept if len(name) == 32} <= held


def test_an_export_is_a_holder_until_somebody_says_that_it_is_gone(world: World) -> None:
    world.apply(ONE)
    (key,) = world.recorded.credentials
    file = exported(world, key)
    taken = take([read(file, PASSWORD)], at=NOON)
    assert taken.pair.public == world.recorded.credentials[key].public
    assert taken.chain is not None
    held = [one for one in holders(world.recorded, key) if one.host == OUTSIDE]
    assert [one.standing for one in held] == ["exported to /tmp/key: for the balancer"]
    assert [one.credential.id for one in holdings(world.recorded, OUTSIDE)] == [key]

    world.apply(ONE, new_key=True)
    assert not world.vault.holds(key)
    assert world.recorded.credentials[key].state is KeyState.RETIRED
    after = destroyed(world.ledger, world.clock, key, "/tmp/key", reason="shredded")
    assert after.state is KeyState.REMOVED
    with pytest.raises(UsageError, match="was not exported to '/tmp/key'"):
        destroyed(world.ledger, world.clock, key, "/tmp/key", reason="again")


def test_an_export_is_written_down_before_it_leaves(world: World) -> None:
    made = create(store_of(world), ONE, ONE.scopes[0])
    exported(world, made.id, form=Format.OPENSSH)
    ((_, copy),) = copies_of(world.recorded.credentials[made.id])
    assert (copy.encrypted, copy.purpose, copy.since) == (True, "for the balancer", NOON)
    assert next(reversed(list(world.ledger.entries()))).event.kind == "key-exported"


def test_a_key_may_be_kept_from_leaving(world: World) -> None:
    kept = replace(ONE, key=replace(ONE.key, exportable=False))
    world.apply(kept)
    (key,) = world.recorded.credentials
    with pytest.raises(RefusedError, match="exportable: no"):
        exported(world, key)
    world.apply(ONE)
    assert list(world.recorded.credentials) == [key]
    with pytest.raises(RefusedError, match="may not be exported"):
        exported(world, key)
    world.apply(ONE, new_key=True)
    (new,) = world.recorded.credentials.keys() - {key}
    assert exported(world, new)
    world.apply(kept)
    with pytest.raises(RefusedError, match="may not be exported"):
        exported(world, new)


def test_a_key_that_was_made_on_its_server_cannot_be_exported(world: World) -> None:
    there = desired(servers=SERVERS[:1], agents=AGENTS[:1], origin=Origin.SERVER)
    world.apply(there)
    (key,) = world.recorded.credentials
    with pytest.raises(RefusedError, match="never leaves"):
        exported(world, key)
    with pytest.raises(RefusedError, match="never leave"):
        create(store_of(world), there, there.scopes[0])


def test_of_several_certificates_one_is_named(world: World) -> None:
    world.apply(SHARED)
    (key,) = world.recorded.credentials
    with pytest.raises(UsageError, match="--server is missing: server-1, server-2 have certificates"):
        exported(world, key)
    assert not world.recorded.credentials[key].copies
    assert b"OPENSSH" in exported(world, key, form=Format.OPENSSH)
    assert exported(world, key, server=SERVERS[1]).count(b"BEGIN CERTIFICATE") == 2
    with pytest.raises(KeyrelayError, match="not certified for 'server-9'; it is for server-1, server-2"):
        exported(world, key, server=HostName("server-9"))


def test_one_certificate_for_all_servers_goes_along_unasked(world: World) -> None:
    made = imported(world, SHARED, existing("server-1", "server-2"))
    assert exported(world, made.id).count(b"BEGIN CERTIFICATE") == 2


def test_an_exported_file_is_named_by_its_path_from_here_or_by_its_name_if_no_other_has_it(
    world: World,
) -> None:
    made = create(store_of(world), ONE, ONE.scopes[0])

    def say_gone(file: str, folder: str = "/") -> int:
        known = destroyed(
            world.ledger, world.clock, made.id, file, reason="shredded", folder=PurePath(folder)
        )
        return len(known.copies)

    for file in ("/a/key", "/b/key", "/a/other"):
        export(store_of(world), made.id, form=Format.PEM, file=file, purpose="a test", password=PASSWORD)
    with pytest.raises(UsageError, match="was not exported to 'key'; files that may exist: /a/key, /b/key"):
        say_gone("key")
    assert say_gone("other") == 2
    assert say_gone("./key", "/a") == 1
    assert say_gone("key", "/nowhere") == 0


def test_where_agents_believe_the_issuer_an_import_is_certified_by_it(world: World) -> None:
    wanted = desired(Policy.DELEGATED, servers=SERVERS[:1], agents=AGENTS[:2])
    taken = existing("server-1")
    with pytest.raises(RefusedError, match="agents believe what the issuer certifies"):
        imported(world, wanted, taken)
    made = imported(world, wanted, taken, certify_anew=True)
    assert made.delegated
    assert world.apply(wanted).complete
    assert world.live_key(SERVER) == taken.pair.public.spki_digest
