"""The list of revoked certificates follows from what became of the keys, and its numbers never come twice."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from orchestrator.errors import ConflictError
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.revocation import Reason
from orchestrator.operations.authority import renew_issuer
from orchestrator.operations.compromise import end_key
from orchestrator.operations.crl import Lists, Signed, sign_lists, sign_root_list
from orchestrator.operations.due import due
from orchestrator.operations.replace_issuer import rotate_issuer
from orchestrator.rotation.authority import Role
from orchestrator.rotation.events import Certified, Event, KeyEnded
from orchestrator.rotation.home_events import LeaseReleased
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded
from orchestrator.views.keys import due_answer
from orchestrator.views.screen import Grid
from tests.fakes import NOON, FakeLedger
from tests.world import AGENTS, SERVERS, World, desired

WEEK = timedelta(days=7)


def sign_all(world: World, ledger: FakeLedger | None = None) -> Lists:
    return sign_lists(ledger or world.ledger, world.issuer, clock=world.clock, valid=WEEK)


def sign(world: World, ledger: FakeLedger | None = None) -> Signed:
    """The list of the one issuer there is."""
    (signed,) = sign_all(world, ledger).signed
    return signed


def sign_root(world: World) -> Signed:
    (signed,) = sign_root_list(world.ledger, world.keys, clock=world.clock, valid=52 * WEEK).signed
    return signed


def serials(world: World) -> list[tuple[str, str]]:
    """Server and serial of every certificate, in the order in which they were issued."""
    return [
        (event.server, f"{parse_certificate(event.certificate_pem).serial:x}")
        for entry in world.ledger.entries()
        if isinstance(event := entry.event, Certified)
    ]


def reasons(signed: Signed) -> dict[str, Reason]:
    return {one.serial: one.reason for one in signed.revoked}


def on(signed: Signed) -> set[str]:
    return {f"{one.serial_number:x}" for one in x509.load_der_x509_crl(signed.crl.der)}


def end(world: World, key_server: int, *, lost: bool) -> None:
    target = world.recorded.servers[SERVERS[key_server]].target
    assert target is not None
    public = world.recorded.credentials[target].public
    assert public is not None
    if not lost:
        world.eye.leaked.add(public.spki_digest)
    end_key(world.ports, public.thumbprint, lost=lost, reason="found on a train", wait=timedelta(hours=1))


def test_each_reason_follows_from_what_became_of_the_key() -> None:
    world = World()
    world.apply(desired())
    assert sign(world).revoked == ()
    first = dict(serials(world))
    end(world, 0, lost=False)
    end(world, 1, lost=True)
    world.apply(desired(servers=SERVERS[:2]))
    signed = sign(world)
    assert reasons(signed) == {
        first["server-1"]: Reason.KEY_COMPROMISE,
        first["server-2"]: Reason.CESSATION_OF_OPERATION,
        first["server-3"]: Reason.CESSATION_OF_OPERATION,
    }
    assert on(signed) == set(reasons(signed))
    world.apply(desired(servers=SERVERS[:2]), new_key=True)
    superseded = {serial for _, serial in serials(world)[3:5]}
    assert {one.serial for one in sign(world).added} == superseded
    assert {world.recorded.revoked[serial].reason for serial in superseded} == {Reason.SUPERSEDED}


def test_a_key_out_of_use_stays_good_while_its_messages_may_be_on_their_way() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1]))
    world.apply(desired(servers=SERVERS[:1]), new_key=True, wait=timedelta(minutes=10))
    retired = next(c for c in world.recorded.credentials.values() if c.state is KeyState.RETIRED)
    assert sign(world).revoked == ()
    world.clock.wait_until(retired.state_since + retired.in_flight)
    assert len(sign(world).revoked) == 1


def test_numbers_grow_and_what_was_said_once_stays_said() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1]))
    world.apply(desired(servers=SERVERS[:1]), new_key=True)
    one = sign(world)
    world.clock.wait_until(world.clock.now() + WEEK)
    other = sign(world)
    assert (one.number, other.number) == (1, 2)
    assert (len(one.added), len(other.added)) == (1, 0)
    assert one.revoked == other.revoked
    (last,) = world.recorded.crls.values()
    assert (last.number, last.next_update) == (2, other.next_update)
    number = x509.load_der_x509_crl(other.crl.der).extensions.get_extension_for_class(x509.CRLNumber)
    assert number.value.crl_number == 2


def test_a_reason_may_get_worse_and_never_better() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1]))
    old = world.recorded.servers[SERVERS[0]].target
    world.apply(desired(servers=SERVERS[:1]), new_key=True)
    (before,) = sign(world).revoked
    assert old is not None
    leaked = KeyEnded(credential=old, how=KeyState.COMPROMISED, reason="found on a train")
    world.ledger.append([leaked], onto=world.recorded, at=world.clock.now())
    (after,) = sign(world).revoked
    assert (before.reason, after.reason) == (Reason.SUPERSEDED, Reason.KEY_COMPROMISE)
    assert before.at == after.at


def test_what_has_ended_is_listed_once_more_and_then_left_out() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1]))
    world.apply(desired(servers=SERVERS[:1]), new_key=True)
    (one,) = sign(world).revoked
    world.clock.wait_until(one.ends + WEEK)
    assert on(sign(world)) == {one.serial}
    assert on(sign(world)) == set()
    assert world.recorded.revoked == {}
    assert on(sign(world)) == set()


class Hurried(FakeLedger):
    """A ledger that another controller writes just before everybody else, so many times."""

    def __init__(self, before: FakeLedger, times: int) -> None:
        super().__init__()
        self._entries, self._state, self._times = before._entries, before._state, times

    def append(self, events: Sequence[Event], *, onto: Recorded, at: datetime) -> Recorded:
        if self._times:
            self._times -= 1
            super().append([LeaseReleased(holder="another")], onto=self._state, at=NOON)
        return super().append(events, onto=onto, at=at)


def test_another_controllers_entry_in_between_costs_no_number_and_no_list() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    assert sign(world, Hurried(world.ledger, 2)).number == 1
    with pytest.raises(ConflictError, match="no list was signed"):
        sign(world, Hurried(world.ledger, 99))


def due_lists(world: World) -> set[Role]:
    owed = due(world.ledger, world.clock).authorities
    return {one.role for one in owed} & {Role.CRL, Role.ROOT_CRL}


def test_each_issuer_whose_key_is_there_signs_a_list_of_what_it_has_certified_itself() -> None:
    world = World()
    wanted = desired(servers=SERVERS[:2], agents=AGENTS[:1])
    world.apply(wanted)
    (first,) = [sign(world)]
    end(world, 0, lost=False)
    leaked = {serial for server, serial in serials(world)[:2] if server == SERVERS[0]}
    world.fleet.trouble(AGENTS[0], unreachable="off")
    rotate_issuer(world.ports, wait=timedelta(0))
    assert due_lists(world) == {Role.CRL}
    owed = due(world.ledger, world.clock)
    assert [one.ends_at for one in owed.authorities if one.role is Role.CRL] == [None]
    table = next(part for part in due_answer(owed, now=world.clock.now()).body if isinstance(part, Grid))
    unsigned = "an issuer has signed none yet: keyrelay ca crl"
    assert ("the list of revoked certificates", "due since 0s", unsigned) in table.rows

    present, earlier = sign_all(world).signed

    assert present.by != first.by == earlier.by
    assert (on(present), on(earlier)) == (set(), leaked)
    assert (first.number, present.number, earlier.number) == (1, 2, 3)
    assert due_lists(world) == set()
    assert world.recorded.crls.keys() == {s.by.public_key.spki_digest for s in (present, earlier)}


def test_an_issuer_whose_key_is_destroyed_is_revoked_by_the_root_under_all_its_certificates() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    sign(world)
    before = [parse_certificate(world.recorded.issuer).serial]
    renew_issuer(world.ledger, world.keys, clock=world.clock, entropy=world.entropy, lifetime=200 * WEEK)
    before.append(parse_certificate(world.recorded.issuer).serial)
    assert on(sign_root(world)) == set()
    assert rotate_issuer(world.ports, wait=timedelta(hours=1)).complete
    assert due_lists(world) == {Role.CRL, Role.ROOT_CRL}

    lists = sign_all(world)
    signed = sign_root(world)

    assert len(lists.signed) == len(lists.orphaned) == 1
    assert on(signed) == {f"{serial:x}" for serial in before}
    assert set(reasons(signed).values()) == {Reason.SUPERSEDED}
    assert sign_all(world).orphaned == ()
    assert due_lists(world) == set()


def test_an_issuer_whose_key_leaked_is_revoked_at_once() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], agents=AGENTS[:1]))
    before = f"{parse_certificate(world.recorded.issuer).serial:x}"
    world.fleet.trouble(AGENTS[0], unreachable="off")
    world.eye.leaked |= world.keys_in_use()
    rotate_issuer(world.ports, leaked="a stolen laptop", wait=timedelta(0))
    assert reasons(sign_root(world)) == {before: Reason.KEY_COMPROMISE}
