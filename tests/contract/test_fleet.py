"""What every ``Fleet`` does: the one in memory, and the one that reaches real hosts over SSH."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey
from orchestrator.keys.material import Algorithm, KeyPair, PublicKey, generate, open_signer, sign
from orchestrator.lab import Lab
from orchestrator.ports import Fleet
from orchestrator.remote.fleet import SshFleet
from orchestrator.rotation import visits
from orchestrator.rotation.observed import HostSurvey
from orchestrator.rotation.visits import (
    Challenge,
    Changed,
    Claim,
    CredentialId,
    Failed,
    Fence,
    Hook,
    Order,
    Outcome,
    Refused,
    Unchanged,
    Unreachable,
    Verdict,
    Visit,
)
from tests.fake_fleet import FakeFleet, counting_random

FLEET = "4f1eaf1e"
ONE = CredentialId("1" * 32)
TWO = CredentialId("2" * 32)
THREE = CredentialId("3" * 32)
SERVER = HostName("server-01")
AGENT = HostName("agent-001")
OTHER = HostName("agent-002")
random = counting_random("contract")


class World(Protocol):
    """A fleet of three empty hosts and what a test may do to them."""

    fleet: Fleet

    def endpoint(self, host: HostName) -> Endpoint: ...
    def cut_off(self, host: HostName) -> None:
        """No visit reaches the host any more."""
        ...

    def failing_hook(self, host: HostName) -> Hook:
        """A hook that fails on this host."""
        ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeFleet(now=lambda: datetime.now(UTC))  # noqa: TID251 - the real hosts live now too
        self.fleet: Fleet = self.fake

    def endpoint(self, host: HostName) -> Endpoint:
        return Endpoint(host=host, address="192.0.2.1")

    def cut_off(self, host: HostName) -> None:
        self.fake.trouble(host, unreachable="connection refused on 192.0.2.1:22")

    def failing_hook(self, host: HostName) -> Hook:
        self.fake.trouble(host, hook_fails="not today")
        return Hook(command="echo not today; exit 1")


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the clock

    def wait_until(self, instant: datetime) -> None:
        raise NotImplementedError


class OverSsh:
    """Each world has folders of its own on the hosts of one lab."""

    numbers = count(1)

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.number = next(self.numbers)
        self.ssh = SshFleet(clock=SystemClock(), entropy=_entropy)
        self.fleet: Fleet = self.ssh
        self.gone: set[HostName] = set()

    def endpoint(self, host: HostName) -> Endpoint:
        found = self.lab.host(host)
        return Endpoint(
            host=host,
            address=found.address,
            port=found.port + (1 if host in self.gone else 0),
            user=self.lab.user,
            key_file=str(self.lab.key_file),
            known_hosts=str(self.lab.known_hosts),
            base=f"{found.base}-{self.number}",
        )

    def cut_off(self, host: HostName) -> None:
        self.gone.add(host)

    def failing_hook(self, host: HostName) -> Hook:
        del host
        return Hook(command="echo not today; exit 1")


def _entropy(size_bytes: int) -> bytes:
    return os.urandom(size_bytes)  # noqa: TID251 - this is the source


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="keyrelay-", ignore_cleanup_errors=True) as folder:
        lab = Lab.up(Path(folder).resolve() / "lab", servers=1, agents=2)
        yield lab
        lab.down()


@pytest.fixture(params=["in memory", "over ssh"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "in memory":
        yield InMemory()
        return
    over_ssh = OverSsh(request.getfixturevalue("shared_lab"))
    with over_ssh.ssh:
        yield over_ssh


@pytest.fixture(params=list(Algorithm))
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return Algorithm(request.param)


def visit(
    world: World, host: HostName, *orders: Order, generation: int = 1, counter: int = 1, fence: bool = True
) -> Outcome:
    asked = Visit(
        endpoint=world.endpoint(host),
        orders=orders,
        fence=Fence(generation=generation, counter=counter) if fence else None,
    )
    (outcome,) = world.fleet.run([asked])
    assert outcome.host == host
    return outcome


def survey(world: World, host: HostName) -> HostSurvey:
    match visit(world, host, visits.Survey(), fence=False):
        case Unchanged(reports=(visits.Surveyed(survey=found),)):
            return found
        case outcome:
            pytest.fail(f"a survey ended as {outcome}")


def challenge(server: HostName = SERVER) -> Challenge:
    return Challenge(fleet=FLEET, server=server, nonce=random(32).hex())


def claim(pair: KeyPair, *, server: HostName = SERVER, altered: bool = False) -> Claim:
    asked = challenge(server)
    text = b"something else" if altered else asked.text()
    return Claim(challenge=asked, key=pair.public.spki_digest, signature=sign(pair.private, text).hex())


def certificate(pair: KeyPair) -> str:
    """A certificate of the key's own, valid from 2020 to 2040."""
    signer = open_signer(pair.private)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER)])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=signer.public_key(),
        serial_number=1,
        not_valid_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2040, 1, 1, tzinfo=UTC),
    )
    digest = hashes.SHA256() if isinstance(signer, ec.EllipticCurvePrivateKey) else None
    return builder.sign(signer, digest).public_bytes(Encoding.PEM).decode()


def stage(pair: KeyPair, credential: CredentialId = ONE, *, own: bool = False) -> visits.Stage:
    pem = certificate(pair)
    return visits.Stage(
        credential=credential,
        certificate_pem=pem,
        chain_pem=pem,
        challenge=challenge(),
        algorithm=pair.public.algorithm,
        private_key=None if own else pair.private,
    )


def activate(
    credential: CredentialId = ONE, algorithm: Algorithm = Algorithm.ED25519, hook: Hook | None = None
) -> visits.Activate:
    return visits.Activate(credential=credential, challenge=challenge(), algorithm=algorithm, hook=hook)


def revert(credential: CredentialId) -> visits.Revert:
    return visits.Revert(credential=credential, challenge=challenge(), algorithm=Algorithm.ED25519)


def key(algorithm: Algorithm = Algorithm.ED25519) -> KeyPair:
    return generate(algorithm, random=random)


def bundle(sequence: int, *pairs: KeyPair, epoch: int = 1, expires: datetime | None = None) -> TrustBundle:
    return TrustBundle(
        fleet=FLEET,
        position=Position(epoch=epoch, sequence=sequence),
        keys=tuple(TrustedKey(public=pair.public, servers=(SERVER,), expires=expires) for pair in pairs),
    )


def verified(public: PublicKey, signature: str, asked: Challenge) -> bool:
    return public.verify(bytes.fromhex(signature), asked.text())


def test_no_visits_give_no_outcomes(world: World) -> None:
    assert list(world.fleet.run([])) == []


def test_every_visit_has_one_outcome_and_an_unreachable_host_holds_up_nobody(world: World) -> None:
    world.cut_off(AGENT)
    hosts = (SERVER, AGENT, OTHER)

    outcomes = {
        outcome.host: outcome
        for outcome in world.fleet.run(
            [Visit(endpoint=world.endpoint(host), orders=(visits.Survey(),)) for host in hosts]
        )
    }

    assert set(outcomes) == set(hosts)
    assert isinstance(outcomes[SERVER], Unchanged)
    assert isinstance(outcomes[OTHER], Unchanged)
    match outcomes[AGENT]:
        case Unreachable(reason=reason):
            assert reason.startswith("connection refused on ")
        case outcome:
            pytest.fail(f"ended as {outcome}")


def test_the_rest_of_a_run_may_be_left(world: World) -> None:
    outcomes = world.fleet.run(
        [Visit(endpoint=world.endpoint(host), orders=(visits.Survey(),)) for host in (SERVER, AGENT, OTHER)]
    )

    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]  # both are generators

    assert list(outcomes) == []


def test_an_empty_host_holds_nothing(world: World) -> None:
    found = survey(world, SERVER)

    assert (found.fence, found.current, found.credentials, found.bundle) == (None, None, (), None)
    assert found.problems == ()
    assert found.openssl.startswith("OpenSSL ")


def test_a_visit_that_changes_something_without_a_fence_is_a_mistake(world: World) -> None:
    with pytest.raises(ValueError, match="fence"):
        visit(world, SERVER, stage(key()), fence=False)


def test_a_staged_credential_lies_beside_the_one_in_use_and_signs(world: World, algorithm: Algorithm) -> None:
    pair = key(algorithm)
    order = stage(pair)

    first, again = visit(world, SERVER, order), visit(world, SERVER, order)

    assert isinstance(first, Changed)
    assert isinstance(again, Unchanged)
    for outcome in (first, again):
        (report,) = outcome.reports
        assert isinstance(report, visits.Staged)
        assert verified(pair.public, report.signature, order.challenge)
    found = survey(world, SERVER)
    (held,) = found.credentials
    assert (held.name, held.disarmed, held.key) == (ONE, False, pair.public.spki_digest)
    assert held.certificate_key == pair.public.spki_digest
    assert held.not_after == datetime(2040, 1, 1, tzinfo=UTC)
    assert found.current is None


def test_another_credential_under_the_same_id_is_refused_and_the_first_stays(world: World) -> None:
    first = key()
    visit(world, SERVER, stage(first))

    assert isinstance(visit(world, SERVER, stage(key())), Refused)
    assert survey(world, SERVER).credentials[0].key == first.public.spki_digest


def test_a_key_made_on_the_host_is_requested_once_and_certified(world: World, algorithm: Algorithm) -> None:
    order = visits.Generate(credential=ONE, algorithm=algorithm, names=(SERVER, "server.example"))

    first, again = visit(world, SERVER, order), visit(world, SERVER, order)

    assert isinstance(first, Changed)
    assert isinstance(again, Unchanged)
    (made,), (repeated,) = first.reports, again.reports
    assert isinstance(made, visits.Generated)
    assert made.changed
    assert repeated == replace(made, changed=False)
    request = x509.load_pem_x509_csr(made.request_pem.encode())
    public = PublicKey.of(request.public_key())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert request.is_signature_valid
    assert public.algorithm is algorithm
    assert names.get_values_for_type(x509.DNSName) == [SERVER, "server.example"]

    pem = certificate(key(algorithm))
    certified = replace(stage(key(algorithm), own=True), certificate_pem=pem, chain_pem=pem)
    for expected in (Changed, Unchanged):
        outcome = visit(world, SERVER, certified)
        assert isinstance(outcome, expected)
        (report,) = outcome.reports
        assert isinstance(report, visits.Staged)
        assert verified(public, report.signature, certified.challenge)
    assert isinstance(visit(world, SERVER, order), Unchanged)


def test_a_credential_whose_key_is_not_there_cannot_be_staged_without_one(world: World) -> None:
    assert isinstance(visit(world, SERVER, stage(key(), own=True)), Refused)


def test_a_credential_that_came_from_elsewhere_is_not_generated_again(world: World) -> None:
    visit(world, SERVER, stage(key()))

    order = visits.Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,))

    assert isinstance(visit(world, SERVER, order), Refused)


def test_a_key_made_on_the_host_is_not_replaced_by_another(world: World) -> None:
    visit(world, SERVER, visits.Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,)))

    assert isinstance(visit(world, SERVER, stage(key())), Refused)


def test_an_activated_credential_is_the_one_that_signs(world: World, algorithm: Algorithm) -> None:
    pair = key(algorithm)
    visit(world, SERVER, stage(pair))
    order = activate(algorithm=algorithm)

    first, again = visit(world, SERVER, order), visit(world, SERVER, order)
    asked = challenge()
    signed = visit(world, SERVER, visits.Sign(challenge=asked), fence=False)

    assert isinstance(first, Changed)
    assert isinstance(again, Unchanged)
    assert isinstance(signed, Unchanged)
    (report,), (proof,) = first.reports, signed.reports
    assert isinstance(report, visits.Activated)
    assert verified(pair.public, report.signature, order.challenge)
    assert isinstance(proof, visits.Signed)
    assert proof.credential == ONE
    assert verified(pair.public, proof.signature, asked)
    assert survey(world, SERVER).current == ONE


def test_what_is_not_staged_completely_is_not_activated(world: World) -> None:
    visit(world, SERVER, visits.Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,)))

    assert isinstance(visit(world, SERVER, activate(ONE)), Refused)
    assert isinstance(visit(world, SERVER, activate(TWO)), Refused)
    assert survey(world, SERVER).current is None


def test_without_a_credential_in_use_nothing_is_signed(world: World) -> None:
    visit(world, SERVER, stage(key()))

    assert isinstance(visit(world, SERVER, visits.Sign(challenge=challenge()), fence=False), Refused)


def test_a_hook_that_fails_leaves_the_credential_of_before_in_use(world: World) -> None:
    visit(world, SERVER, stage(key(), ONE), activate(ONE), stage(key(), TWO))

    outcome = visit(world, SERVER, activate(TWO, hook=world.failing_hook(SERVER)))

    assert isinstance(outcome, Failed)
    assert "exited 1: not today" in outcome.reason
    assert f"back on {ONE}" in outcome.reason
    assert survey(world, SERVER).current == ONE


def test_a_hook_that_fails_the_first_time_leaves_no_credential_in_use(world: World) -> None:
    visit(world, SERVER, stage(key()))

    assert isinstance(visit(world, SERVER, activate(hook=world.failing_hook(SERVER))), Failed)
    assert survey(world, SERVER).current is None


def test_an_earlier_credential_is_reverted_to_until_it_is_disarmed(world: World) -> None:
    old, new = key(), key()
    visit(world, SERVER, stage(old, ONE), activate(ONE), stage(new, TWO), activate(TWO))

    back = visit(world, SERVER, revert(ONE))
    assert isinstance(back, Changed)
    assert isinstance(back.reports[0], visits.Reverted)
    assert survey(world, SERVER).current == ONE

    order = visits.Disarm(credentials=(ONE,), in_use=TWO)
    assert isinstance(visit(world, SERVER, order), Refused)
    assert isinstance(visit(world, SERVER, activate(TWO), order), Changed)
    assert isinstance(visit(world, SERVER, order), Unchanged)
    assert isinstance(visit(world, SERVER, revert(ONE)), Refused)
    assert isinstance(visit(world, SERVER, stage(old, ONE)), Refused)
    found = survey(world, SERVER)
    assert found.current == TWO
    assert [(held.name, held.disarmed) for held in found.credentials] == [(ONE, True), (TWO, False)]


def test_the_credential_in_use_is_disarmed_and_erased_only_by_a_server_that_leaves(world: World) -> None:
    visit(world, SERVER, stage(key()), activate())

    assert isinstance(visit(world, SERVER, visits.Disarm(credentials=(ONE,), in_use=ONE)), Refused)
    assert isinstance(visit(world, SERVER, visits.Erase(credentials=(ONE,))), Refused)
    leaving = visits.Disarm(credentials=(ONE,), in_use=None)
    assert isinstance(visit(world, SERVER, leaving), Changed)
    assert isinstance(visit(world, SERVER, leaving), Unchanged)
    found = survey(world, SERVER)
    assert found.current is None
    assert [held.disarmed for held in found.credentials] == [True]
    erasing = visits.Erase(credentials=(ONE,))
    assert isinstance(visit(world, SERVER, erasing), Changed)
    assert isinstance(visit(world, SERVER, erasing), Unchanged)
    assert survey(world, SERVER).credentials == ()


def test_what_was_never_there_is_disarmed_and_erased_already(world: World) -> None:
    visit(world, SERVER, stage(key()), activate())

    assert isinstance(visit(world, SERVER, visits.Disarm(credentials=(THREE,), in_use=ONE)), Unchanged)
    assert isinstance(visit(world, SERVER, visits.Erase(credentials=(THREE,))), Unchanged)


def test_an_agent_tells_of_each_claim_what_its_bundle_says(world: World, algorithm: Algorithm) -> None:
    trusted, unknown = key(algorithm), key(algorithm)
    claims = (
        claim(trusted),
        claim(trusted, altered=True),
        claim(unknown),
        claim(trusted, server=HostName("server-02")),
        claim(trusted),
    )
    expected = (Verdict.VALID, Verdict.INVALID, Verdict.UNTRUSTED, Verdict.UNTRUSTED, Verdict.VALID)
    wanted = bundle(1, trusted, key())

    installed = visit(world, AGENT, visits.Trust(bundle=wanted, claims=claims))
    checked = visit(world, AGENT, visits.Check(claims=claims), fence=False)

    assert isinstance(installed, Changed)
    assert installed.reports == (
        visits.Trusted(position=wanted.position, digest=wanted.digest, verdicts=expected, changed=True),
    )
    assert isinstance(checked, Unchanged)
    assert checked.reports == (visits.Checked(digest=wanted.digest, verdicts=expected),)


def test_a_key_is_expired_from_its_last_second_on(world: World) -> None:
    pair = key()
    over = bundle(1, pair, expires=datetime(2020, 1, 1, tzinfo=UTC))
    later = bundle(2, pair, expires=datetime(2040, 1, 1, tzinfo=UTC))

    for wanted, verdict in ((over, Verdict.EXPIRED), (later, Verdict.VALID)):
        outcome = visit(world, AGENT, visits.Trust(bundle=wanted, claims=(claim(pair),)))
        assert isinstance(outcome, Changed)
        (report,) = outcome.reports
        assert isinstance(report, visits.Trusted)
        assert report.verdicts == (verdict,)


def test_a_bundle_takes_the_place_of_an_earlier_one_and_is_surveyed(world: World) -> None:
    one, two = key(), key()
    visit(world, AGENT, visits.Trust(bundle=bundle(1, one)))
    wanted = bundle(2, two, one, expires=datetime(2040, 1, 1, tzinfo=UTC))

    assert isinstance(visit(world, AGENT, visits.Trust(bundle=wanted)), Changed)
    assert isinstance(visit(world, AGENT, visits.Trust(bundle=wanted)), Unchanged)

    held = survey(world, AGENT).bundle
    assert held is not None
    assert (held.position, held.digest) == (wanted.position, wanted.digest)
    assert sorted(held.keys) == sorted([one.public.spki_digest, two.public.spki_digest])
    assert {(edge.server, edge.expires) for edge in held.edges} == {(SERVER, 2208988800)}


def test_a_bundle_never_goes_back_nor_changes_under_its_number(world: World) -> None:
    pair = key()
    visit(world, AGENT, visits.Trust(bundle=bundle(5, pair, epoch=2)))

    for refused in (bundle(4, pair, epoch=2), bundle(9, pair, epoch=1), bundle(5, key(), epoch=2)):
        assert isinstance(visit(world, AGENT, visits.Trust(bundle=refused)), Refused)
    held = survey(world, AGENT).bundle
    assert held is not None
    assert held.digest == bundle(5, pair, epoch=2).digest
    assert isinstance(visit(world, AGENT, visits.Trust(bundle=bundle(0, pair, epoch=3))), Changed)


def test_an_agent_that_listens_to_nobody_trusts_nobody(world: World) -> None:
    wanted = bundle(1)

    outcome = visit(world, AGENT, visits.Trust(bundle=wanted, claims=(claim(key()),)))

    assert isinstance(outcome, Changed)
    assert outcome.reports == (
        visits.Trusted(
            position=wanted.position, digest=wanted.digest, verdicts=(Verdict.UNTRUSTED,), changed=True
        ),
    )


def test_without_a_bundle_nothing_is_checked(world: World) -> None:
    assert isinstance(visit(world, AGENT, visits.Check(claims=(claim(key()),)), fence=False), Refused)


@pytest.mark.parametrize(("generation", "counter"), [(2, 6), (1, 9)])
def test_a_controller_that_is_behind_is_refused(world: World, generation: int, counter: int) -> None:
    visit(world, SERVER, stage(key()), generation=2, counter=7)

    outcome = visit(world, SERVER, activate(), generation=generation, counter=counter)

    assert isinstance(outcome, Refused)
    assert outcome.reason == f"fenced: a controller at 2.7 was here, this one is at {generation}.{counter}"
    found = survey(world, SERVER)
    assert (found.fence, found.current) == ((2, 7), None)


def test_the_fence_rises_with_a_visit_even_when_all_stood_already(world: World) -> None:
    order = stage(key())
    visit(world, SERVER, order, counter=3)

    assert isinstance(visit(world, SERVER, order, counter=8), Unchanged)
    assert survey(world, SERVER).fence == (1, 8)


def test_a_visit_that_is_refused_raises_no_fence(world: World) -> None:
    visit(world, SERVER, stage(key()), counter=3)

    assert isinstance(visit(world, SERVER, activate(TWO), counter=8), Refused)
    assert survey(world, SERVER).fence == (1, 3)


def test_orders_are_done_in_turn_until_one_is_refused(world: World) -> None:
    outcome = visit(world, SERVER, stage(key(), ONE), activate(TWO), stage(key(), THREE), counter=4)

    assert isinstance(outcome, Refused)
    assert [report.kind for report in outcome.reports] == ["stage"]
    found = survey(world, SERVER)
    assert [held.name for held in found.credentials] == [ONE]
    assert found.fence == (1, 4)


def test_clocks_that_agree_show_no_skew(world: World) -> None:
    outcome = visit(world, SERVER, visits.Survey(), fence=False)

    assert isinstance(outcome, Unchanged)
    assert abs(outcome.skew) < timedelta(seconds=2)
