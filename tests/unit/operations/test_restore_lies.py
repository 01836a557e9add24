"""What one hostile host shows when a home is restored harms nobody else, and ends nothing."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from orchestrator.errors import RefusedError
from orchestrator.inventory.model import HostName
from orchestrator.keys.authority import certify, make_request
from orchestrator.keys.bundle import TrustedKey, Use
from orchestrator.keys.material import Algorithm, KeyPair, generate, load_private
from orchestrator.operations.restore import Request, restore
from orchestrator.policy.desired import Desired, Policy
from tests.endings import assert_settled
from tests.fake_state import Folder
from tests.fakes import NOON, SeededEntropy
from tests.homes import copied, go_on_with
from tests.world import AGENTS, SERVERS, World, desired

SHARED = desired(Policy.SHARED, servers=SERVERS[:2], agents=AGENTS[:2])
LIAR, HONEST = SERVERS[:2]
MADE_UP = generate(Algorithm.ED25519, random=SeededEntropy("made up"))
A_LATER_YEAR, YEAR_ONE = b"20510101000000Z", b"00010101000000Z"


def overtaken(wanted: Desired = SHARED) -> tuple[World, str]:
    """A fleet whose home is put back to before its shared key was renewed; and the id of the new key."""
    world = World()
    world.apply(wanted)
    copy = copied(world)
    world.apply(wanted, new_key=True)
    newer = world.recorded.servers[HONEST].target
    assert newer is not None
    world.eye.takes_in_surveys()
    go_on_with(world, copy, watched=False)
    return world, newer


def signed_by_itself(pair: KeyPair) -> bytes:
    """A certificate that ends on the first day of 2051; DER."""
    signer = load_pem_private_key(pair.private.reveal(), None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alone")])
    end = datetime(2051, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, signer.public_key(), 7)  # type: ignore[arg-type]
    dated = builder.not_valid_before(end - timedelta(days=1)).not_valid_after(end)
    return dated.sign(signer, None).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def shows(world: World, server: HostName, name: str, folder: Folder) -> None:
    state = world.fleet.hosts[server]
    world.fleet.hosts[server] = replace(state, credentials={**state.credentials, name: folder})


def go_on(world: World, request: Request) -> None:
    assert restore(world.ports, request, agree=lambda _: True) is not None


def test_another_key_by_a_shared_id_ends_nothing_of_those_who_have_the_true_one() -> None:
    world, newer = overtaken()
    live = world.live_key(HONEST)
    pem = ssl.DER_cert_to_PEM_cert(signed_by_itself(MADE_UP))
    shows(world, LIAR, newer, Folder(private_key=MADE_UP.private, certificate_pem=pem, chain_pem=pem))

    go_on(world, Request())

    found = world.recorded.credentials[newer]  # type: ignore[index]  # an id is an id
    assert found.public is not None
    assert found.public.spki_digest == live
    assert not found.compromised
    world.fleet.trouble(AGENTS[0], unreachable="away")
    world.apply(SHARED)
    assert world.live_key(HONEST) == live
    assert live in world.trusted(AGENTS[0], HONEST)
    assert (AGENTS[0], HONEST) not in world.orphans()
    world.fleet.heal(AGENTS[0])
    assert_settled(world, SHARED)


@pytest.mark.parametrize("certified", [False, True])
def test_several_servers_that_show_another_key_do_not_outvote_the_agents(*, certified: bool) -> None:
    many = desired(Policy.SHARED, servers=SERVERS, agents=AGENTS[:2])
    world, newer = overtaken(many)
    honest = SERVERS[2]
    live = world.live_key(honest)
    for liar in SERVERS[:2]:
        pem = chain = ssl.DER_cert_to_PEM_cert(signed_by_itself(MADE_UP))
        if certified:
            made = certify(
                world.issuer(),
                request_pem=make_request(MADE_UP, names=(liar,)),
                names=(liar,),
                now=NOON,
                not_after=NOON + timedelta(days=9),
                backdate=timedelta(0),
                random=world.entropy,
            )
            pem, chain = made.pem, world.issuer().certificate.pem
        shows(world, liar, newer, Folder(private_key=MADE_UP.private, certificate_pem=pem, chain_pem=chain))

    go_on(world, Request())

    found = world.recorded.credentials[newer]  # type: ignore[index]  # an id is an id
    assert found.public is not None
    assert found.public.spki_digest == live
    assert not found.compromised
    assert_settled(world, many)


def test_a_server_that_was_away_at_the_restore_keeps_its_key_though_another_showed_one_by_its_id() -> None:
    world, newer = overtaken()
    live = world.live_key(HONEST)
    pem = ssl.DER_cert_to_PEM_cert(signed_by_itself(MADE_UP))
    shows(world, LIAR, newer, Folder(private_key=MADE_UP.private, certificate_pem=pem, chain_pem=pem))
    world.fleet.trouble(HONEST, unreachable="away")
    go_on(world, Request(waive=[HONEST]))
    world.fleet.heal(HONEST)
    world.fleet.trouble(AGENTS[0], unreachable="away")
    world.apply(SHARED)
    assert world.live_key(HONEST) == live
    assert (AGENTS[0], HONEST) not in world.orphans()
    world.fleet.heal(AGENTS[0])
    assert_settled(world, SHARED)


@pytest.mark.parametrize("year", [A_LATER_YEAR, YEAR_ONE])
def test_a_certificate_of_any_year_neither_ends_a_shared_key_nor_has_it_go_on(year: bytes) -> None:
    world, newer = overtaken()
    begun = world.clock.now()
    folder = world.fleet.hosts[LIAR].credentials[newer]
    assert folder.private_key is not None
    own = load_private(folder.private_key)
    old = ssl.DER_cert_to_PEM_cert(signed_by_itself(own).replace(A_LATER_YEAR, year))
    shows(world, LIAR, newer, replace(folder, certificate_pem=old, chain_pem=""))
    go_on(world, Request())
    lifetime = SHARED.certificate.lifetime
    end = world.recorded.credentials[newer].not_after  # type: ignore[index]  # an id is an id
    assert begun + lifetime - timedelta(hours=1) < end < begun + lifetime + timedelta(hours=1)
    assert_settled(world, SHARED)


def test_a_certificate_of_another_key_is_none_and_the_scope_gets_a_key_that_can_be_certified() -> None:
    world, newer = overtaken()
    folder = world.fleet.hosts[LIAR].credentials[newer]
    other = ssl.DER_cert_to_PEM_cert(signed_by_itself(MADE_UP))
    shows(world, LIAR, newer, replace(folder, certificate_pem=other))
    go_on(world, Request())
    assert_settled(world, SHARED)
    assert newer not in {record.target for record in world.recorded.servers.values()}


def test_a_blank_chain_keeps_no_home_from_being_restored() -> None:
    world, newer = overtaken()
    for host in (LIAR, AGENTS[1]):
        folder = world.fleet.hosts[LIAR].credentials[newer]
        shows(world, host, newer, replace(folder, chain_pem="\n"))
    go_on(world, Request())
    assert_settled(world, SHARED)


def test_an_agent_that_makes_servers_up_can_be_waived() -> None:
    world, _ = overtaken()
    agent = AGENTS[1]
    state = world.fleet.hosts[agent]
    assert state.bundle is not None
    made_up = TrustedKey(
        public=MADE_UP.public,
        uses=(Use.SIGN,),
        servers=tuple(sorted(HostName(f"made-up-{number}") for number in range(20))),
        expires=datetime(2031, 1, 1, tzinfo=UTC),
    )
    world.fleet.hosts[agent] = replace(
        state, bundle=replace(state.bundle, keys=(*state.bundle.keys, made_up))
    )
    with pytest.raises(RefusedError, match=f"if {agent} makes that up, --waive {agent}"):
        go_on(world, Request())
    go_on(world, Request(waive=[agent]))
    assert_settled(world, SHARED)
