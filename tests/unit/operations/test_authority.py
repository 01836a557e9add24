"""Root and issuer: when they are due, and how they are renewed over the same keys."""

from datetime import timedelta

import pytest

from orchestrator.errors import IssuerError
from orchestrator.keys.authority import ROOT_KEY
from orchestrator.keys.certificate import parse_certificate, parse_chain
from orchestrator.keys.path import verify_chain
from orchestrator.keys.revocation import is_issued_by
from orchestrator.operations.authority import renew_issuer, renew_root
from orchestrator.operations.due import due
from orchestrator.operations.found import LIFETIMES
from orchestrator.rotation.authority import Role, authorities
from orchestrator.rotation.home_events import CrlSigned
from tests.fakes import NOON, FakeKeyring
from tests.mortal import MortalVault
from tests.world import SERVERS, World, desired

DAY = timedelta(days=1)
YEAR = 365 * DAY


def due_in(world: World) -> dict[Role, int]:
    """Whole days from the founding until each part is due."""
    return {
        one.role: (one.due_at - NOON) // DAY for one in authorities(world.recorded, now=world.clock.now())
    }


def renewed(world: World, years: int) -> None:
    renew_issuer(world.ledger, world.keys, clock=world.clock, entropy=world.entropy, lifetime=years * YEAR)


def test_an_authority_is_due_at_two_thirds_of_its_life() -> None:
    world = World()
    assert due_in(world) == {Role.ROOT: 20 * 365 * 2 // 3, Role.ISSUER: 5 * 365 * 2 // 3}
    assert due(world.ledger, world.clock).authorities == ()
    (issuer,) = due(world.ledger, world.clock, within=4 * YEAR).authorities
    assert (issuer.role, issuer.ends_at) == (Role.ISSUER, NOON + LIFETIMES.issuer)


def test_an_issuer_is_due_before_a_certificate_would_outlive_it() -> None:
    world = World()
    world.apply(desired(servers=SERVERS[:1], lifetime=3 * YEAR))
    assert due_in(world)[Role.ISSUER] == 2 * 365


def test_a_list_of_revoked_certificates_is_due_too() -> None:
    world = World()
    listed = CrlSigned(number=1, next_update=NOON + 9 * DAY, digest="", added=(), dropped=())
    world.ledger.append([listed], onto=world.recorded, at=NOON)
    assert due_in(world)[Role.CRL] == 6


def test_a_renewed_issuer_has_the_same_key_and_vouches_for_what_is_there() -> None:
    world = World()
    world.apply(desired())
    before = parse_certificate(world.recorded.issuer)
    world.clock.wait_until(NOON + 4 * YEAR)
    renewed(world, 5)
    after = parse_certificate(world.recorded.issuer)
    assert after.public_key == before.public_key
    assert after.not_after == NOON + 9 * YEAR
    assert due_in(world)[Role.ISSUER] > 4 * 365
    root = parse_certificate(world.recorded.root)
    world.apply(desired(), new_key=True)
    for credential in world.recorded.credentials.values():
        for server, pem in credential.certificates.items():
            leaf = parse_certificate(pem)
            (above,) = parse_chain(credential.chains[server])
            verify_chain(leaf, [above], root, at=leaf.not_before, name=server)
            if leaf.not_after > after.not_before:
                assert above == after
            assert is_issued_by(leaf, after)


def test_a_root_that_would_end_first_is_renewed_first() -> None:
    world = World()
    before = parse_certificate(world.recorded.root)
    world.clock.wait_until(NOON + 16 * YEAR)
    with pytest.raises(IssuerError, match="can certify until"):
        renewed(world, 5)
    renew_root(world.ledger, world.keys, clock=world.clock, entropy=world.entropy, lifetime=LIFETIMES.root)
    after = parse_certificate(world.recorded.root)
    assert (after.public_key, after.not_after) == (before.public_key, NOON + 36 * YEAR)
    renewed(world, 5)


def test_another_fleets_key_renews_nothing() -> None:
    world = World()
    other = FakeKeyring(MortalVault(world.vault, world.life), world.entropy)
    other.make(ROOT_KEY)
    before = world.recorded
    with pytest.raises(IssuerError, match=r"not that of .*keyrelay root.*nothing was renewed"):
        renew_root(world.ledger, other, clock=world.clock, entropy=world.entropy, lifetime=LIFETIMES.root)
    assert world.recorded == before
