"""Every verb of the host program, done and done again, under each shell that may be a host's ``sh``."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from orchestrator.keys.material import Algorithm, KeyPair, PublicKey, generate
from orchestrator.rotation.reports import (
    Activated,
    Changed,
    Checked,
    Disarmed,
    Erased,
    Failed,
    Generated,
    Refused,
    Reverted,
    Signed,
    Staged,
    Trusted,
    Unchanged,
    Verdict,
)
from orchestrator.rotation.visits import (
    Activate,
    Check,
    Claim,
    Disarm,
    Erase,
    Fence,
    Generate,
    Hook,
    Revert,
    Sign,
    Stage,
    Survey,
    Trust,
)
from tests.integration.program import (
    CERTIFICATE,
    ED25519,
    ONE,
    P256,
    RSA,
    SERVER,
    THREE,
    TWO,
    Machine,
    bundle,
    challenge,
    claim,
    hook,
    random,
    signed_by,
    stage,
    verifies,
)

PAIRS = pytest.mark.parametrize("pair", [ED25519, P256, RSA], ids=list(Algorithm))


def mode(path: Path) -> str:
    return f"{path.lstat().st_mode & 0o7777:o}"


@PAIRS
def test_stage_installs_three_files_and_signs_with_the_new_key(machine: Machine, pair: KeyPair) -> None:
    order = stage(ONE, pair)
    report = machine.report(order)

    assert isinstance(report, Staged)
    assert report.changed
    assert signed_by(pair, order, report.signature)
    folder = machine.base / "server" / "credentials" / ONE
    assert (folder / "key.pem").read_bytes() == pair.private.reveal()
    assert (folder / "cert.pem").read_text() == CERTIFICATE
    assert (folder / "chain.pem").read_text() == CERTIFICATE
    assert {mode(file) for file in folder.iterdir()} == {"600"}
    assert mode(folder) == mode(folder.parent) == mode(folder.parent.parent) == "700"
    assert mode(machine.base) == "755"
    assert sorted(entry.name for entry in machine.base.iterdir()) == ["fence", "server"]
    assert machine.noise == b""


def test_staging_again_signs_again_and_touches_no_file(machine: Machine) -> None:
    fence = Fence(generation=1, counter=1)
    machine.run(stage(), fence=fence)
    before = machine.snapshot()
    order = stage()
    outcome = machine.run(order, fence=fence)

    assert isinstance(outcome, Unchanged)
    assert isinstance(outcome.reports[0], Staged)
    assert signed_by(ED25519, order, outcome.reports[0].signature)
    assert machine.snapshot() == before


def test_a_higher_fence_is_remembered_even_when_nothing_else_changes(machine: Machine) -> None:
    machine.run(stage(), fence=Fence(generation=1, counter=1))
    before = machine.without_fence()
    outcome = machine.run(stage(), fence=Fence(generation=2, counter=0))

    assert isinstance(outcome, Unchanged)
    assert machine.without_fence() == before
    assert (machine.base / "fence").read_text() == "2 0 -\n"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_generate_makes_a_key_that_never_leaves_and_returns_its_request(
    machine: Machine, algorithm: Algorithm
) -> None:
    order = Generate(credential=ONE, algorithm=algorithm, names=(SERVER, "www.example"))
    report = machine.report(order)

    assert isinstance(report, Generated)
    assert report.changed
    request = x509.load_pem_x509_csr(report.request_pem.encode())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert request.is_signature_valid
    assert PublicKey.of(request.public_key()).algorithm is algorithm
    assert names.get_values_for_type(x509.DNSName) == [SERVER, "www.example"]
    key = machine.base / "server" / "credentials" / ONE / "key.pem"
    assert mode(key) == "600"
    for row in key.read_bytes().splitlines()[1:-1]:
        assert row not in machine.answer


def test_generating_again_returns_the_same_request_and_touches_no_file(machine: Machine) -> None:
    order = Generate(credential=ONE, algorithm=Algorithm.ECDSA_P256, names=(SERVER,))
    first = machine.report(order)
    before = machine.without_fence()
    again = machine.report(order)

    assert isinstance(first, Generated)
    assert again == Generated(credential=ONE, request_pem=first.request_pem, changed=False)
    assert machine.without_fence() == before


def test_a_name_too_long_for_a_common_name_stands_among_the_alternative_names(machine: Machine) -> None:
    long = f"{'a' * 63}.{'b' * 63}.example"
    report = machine.report(Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(long,)))

    assert isinstance(report, Generated)
    request = x509.load_pem_x509_csr(report.request_pem.encode())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert not list(request.subject)
    assert names.get_values_for_type(x509.DNSName) == [long]


def test_a_key_made_here_gets_its_certificate_and_stays_the_same_file(machine: Machine) -> None:
    made = machine.report(Generate(credential=ONE, algorithm=Algorithm.ED25519, names=(SERVER,)))
    key = machine.base / "server" / "credentials" / ONE / "key.pem"
    inode = key.stat().st_ino
    order = Stage(
        credential=ONE,
        certificate_pem=CERTIFICATE,
        chain_pem=CERTIFICATE,
        challenge=challenge(),
        algorithm=Algorithm.ED25519,
    )
    report = machine.report(order)

    assert isinstance(made, Generated)
    assert isinstance(report, Staged)
    assert report.changed
    public = PublicKey.of(x509.load_pem_x509_csr(made.request_pem.encode()).public_key())
    assert verifies(public, order.challenge, report.signature)
    assert key.stat().st_ino == inode
    before = machine.without_fence()
    assert not machine.report(order).changed
    assert machine.without_fence() == before


@PAIRS
def test_trust_installs_the_bundle_and_verifies_with_it(machine: Machine, pair: KeyPair) -> None:
    wanted = bundle(7, pair)
    stranger = generate(Algorithm.ED25519, random=random)
    claims = (claim(pair), claim(stranger), claim(pair, "server-02"))
    report = machine.report(Trust(bundle=wanted, claims=claims))

    assert report == Trusted(
        position=wanted.position,
        digest=wanted.digest,
        verdicts=(Verdict.VALID, Verdict.UNTRUSTED, Verdict.UNTRUSTED),
        changed=True,
    )
    folder = machine.base / "agent" / "current"
    assert folder.readlink() == Path("bundles/1.7")
    assert {name: (folder / name).read_bytes() for name in wanted.files()} == dict(wanted.files())
    assert {mode(folder / name) for name in wanted.files()} == {"644"}
    assert mode(folder.parent) == mode(folder.resolve()) == mode(folder / "keys") == "755"


def test_a_hook_that_takes_its_mark_away_and_fails_counts_as_not_run_all_the_same(machine: Machine) -> None:
    machine.report(Trust(bundle=bundle(1, ED25519)))
    takes_away = Hook(command=f"rm -f {machine.base}/agent/hook-pending; echo not today; exit 1")
    untold = bundle(2, ED25519, P256)
    for _ in range(2):
        outcome = machine.run(Trust(bundle=untold, hooks=(takes_away,)))
        assert isinstance(outcome, Failed)
        assert outcome.reason == f"bundle {untold.position} is in use, but the hook exited 1: not today"
        pending = (machine.base / "agent" / "hook-pending").read_text()
        assert pending == f"{untold.position} {bundle(1, ED25519).position}\n"
    assert isinstance(machine.run(Trust(bundle=untold, hooks=(Hook(command="true"),))), Changed)


def test_trusting_again_touches_no_file(machine: Machine) -> None:
    order = Trust(bundle=bundle(7, ED25519), claims=(claim(ED25519),))
    machine.report(order)
    before = machine.without_fence()

    assert not machine.report(order).changed
    assert machine.without_fence() == before


def test_a_forged_signature_is_invalid_and_an_expired_key_is_expired(machine: Machine) -> None:
    true = claim(ED25519)
    forged = claim(P256)
    forged = type(forged)(challenge=forged.challenge, key=true.key, signature=true.signature)
    machine.report(Trust(bundle=bundle(1, ED25519)))
    assert machine.report(Check(claims=(true, forged))) == Checked(
        digest=bundle(1, ED25519).digest, verdicts=(Verdict.VALID, Verdict.INVALID)
    )

    past = datetime(2001, 1, 1, tzinfo=UTC)
    machine.report(Trust(bundle=bundle(2, ED25519, expires=past)))
    checked = machine.report(Check(claims=(true,)))
    assert isinstance(checked, Checked)
    assert checked.verdicts == (Verdict.EXPIRED,)


@PAIRS
def test_a_signature_of_any_shape_is_invalid_and_no_error(machine: Machine, pair: KeyPair) -> None:
    true = claim(pair)
    size_bytes = len(true.signature) // 2
    shapes = ("00", "ff" * size_bytes, "00" * size_bytes, true.signature[:-2], f"{true.signature}00")
    others = [claim(other).signature for other in (ED25519, P256, RSA)]
    forged = [Claim(challenge=true.challenge, key=true.key, signature=one) for one in (*shapes, *others)]
    report = machine.report(Trust(bundle=bundle(1, pair), claims=(true, *forged)))

    assert isinstance(report, Trusted)
    assert report.verdicts == (Verdict.VALID, *[Verdict.INVALID] * len(forged))


@PAIRS
def test_a_key_that_openssl_cannot_read_is_an_error_and_no_verdict(machine: Machine, pair: KeyPair) -> None:
    machine.report(Trust(bundle=bundle(1, pair)))
    file = machine.base / "agent" / "current" / "keys" / f"{pair.public.spki_digest}.pem"
    file.write_text(pair.public.pem.replace("M", "N", 1))
    outcome = machine.run(Check(claims=(claim(pair),)))

    assert isinstance(outcome, Refused), outcome
    assert outcome.reason.startswith("openssl cannot verify with agent/bundles/1.1/keys/")


@pytest.mark.parametrize("pair", [P256, RSA], ids=["ecdsa-p256", "rsa-3072"])
def test_an_openssl_without_rawin_signs_and_verifies_by_dgst(
    machine: Machine, tmp_path: Path, pair: KeyPair
) -> None:
    """OpenSSL 1.1.1 does not know the option."""
    older = tmp_path / "older"
    older.mkdir()
    for program in machine.path.iterdir():
        (older / program.name).symlink_to(program.readlink())
    real = (older / "openssl").readlink()
    (older / "openssl").unlink()
    refusing = f'case $* in *-rawin*) echo unknown option -rawin >&2; exit 1 ;; esac\nexec {real} "$@"\n'
    (older / "openssl").write_text(f"#!/bin/sh\n{refusing}")
    (older / "openssl").chmod(0o755)
    machine.path = older
    order = stage(ONE, pair)
    staged = machine.report(order)
    true, strange = claim(pair), claim(pair)
    forged = Claim(challenge=true.challenge, key=true.key, signature=strange.signature)
    trusted = machine.report(Trust(bundle=bundle(1, pair), claims=(true, forged)))

    assert isinstance(staged, Staged)
    assert signed_by(pair, order, staged.signature)
    assert isinstance(trusted, Trusted)
    assert trusted.verdicts == (Verdict.VALID, Verdict.INVALID)


def test_an_agent_that_listens_to_nobody_gets_an_empty_bundle(machine: Machine) -> None:
    report = machine.report(Trust(bundle=bundle(1), claims=(claim(ED25519),)))

    assert isinstance(report, Trusted)
    assert report.verdicts == (Verdict.UNTRUSTED,)


def test_a_large_bundle_arrives_whole(machine: Machine) -> None:
    pairs = [generate(Algorithm.ED25519, random=random) for _ in range(60)]
    report = machine.report(Trust(bundle=bundle(1, *pairs), claims=tuple(map(claim, pairs[:5]))))

    assert isinstance(report, Trusted)
    assert report.verdicts == (Verdict.VALID,) * 5


def test_only_the_bundle_before_stays_beside_the_one_in_use(machine: Machine) -> None:
    for sequence in (1, 2, 3, 4):
        machine.report(Trust(bundle=bundle(sequence, ED25519)))

    left = sorted(entry.name for entry in (machine.base / "agent" / "bundles").iterdir())
    assert left == ["1.3", "1.4"]


@PAIRS
def test_activate_switches_runs_the_hook_and_signs_through_current(
    machine: Machine, pair: KeyPair, tmp_path: Path
) -> None:
    machine.report(stage(ONE, pair))
    seen = tmp_path / "seen"
    order = Activate(
        credential=ONE,
        challenge=challenge(),
        algorithm=pair.public.algorithm,
        hook=hook(f"readlink {machine.base}/server/current >{seen}"),
    )
    report = machine.report(order)

    assert isinstance(report, Activated)
    assert report.changed
    assert verifies(pair.public, order.challenge, report.signature)
    assert (machine.base / "server" / "current").readlink() == Path("credentials") / ONE
    assert seen.read_text() == f"credentials/{ONE}\n"
    assert not (machine.base / "server" / "hook-pending").exists()


def test_activating_again_runs_no_hook_and_touches_no_file(machine: Machine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    order = Activate(
        credential=ONE,
        challenge=challenge(),
        algorithm=Algorithm.ED25519,
        hook=hook(f"echo ran >>{seen}"),
    )
    machine.report(stage(), order)
    before = machine.without_fence()

    assert not machine.report(order).changed
    assert seen.read_text() == "ran\n"
    assert machine.without_fence() == before


def test_revert_goes_back_to_the_credential_before(machine: Machine) -> None:
    def to(kind: type[Activate | Revert], credential: str) -> Activate | Revert:
        chosen = ONE if credential == ONE else TWO
        return kind(credential=chosen, challenge=challenge(), algorithm=Algorithm.ED25519)

    machine.report(stage(ONE, ED25519), to(Activate, ONE))
    machine.report(stage(TWO, P256), to(Activate, TWO))
    order = to(Revert, ONE)
    report = machine.report(order)

    assert isinstance(report, Reverted)
    assert report.changed
    assert verifies(ED25519.public, order.challenge, report.signature)
    before = machine.without_fence()
    assert not machine.report(order).changed
    assert machine.without_fence() == before


def test_disarm_moves_and_erase_destroys(machine: Machine) -> None:
    machine.report(
        stage(ONE),
        stage(TWO, P256),
        Activate(credential=TWO, challenge=challenge(), algorithm=Algorithm.ECDSA_P256),
    )
    server = machine.base / "server"
    held_open = (server / "credentials" / ONE / "key.pem").open("rb")

    disarm = Disarm(credentials=(ONE, THREE), in_use=TWO)
    assert machine.report(disarm) == Disarmed(credentials=(ONE, THREE), changed=True)
    assert sorted(entry.name for entry in (server / "disarmed").iterdir()) == [ONE]
    before = machine.without_fence()
    assert machine.report(disarm) == Disarmed(credentials=(ONE, THREE), changed=False)
    assert machine.without_fence() == before

    erase = Erase(credentials=(ONE, THREE))
    assert machine.report(erase) == Erased(credentials=(ONE, THREE), changed=True)
    assert not list((server / "disarmed").iterdir())
    with held_open:
        assert set(held_open.read()) == {0}
    before = machine.without_fence()
    assert machine.report(erase) == Erased(credentials=(ONE, THREE), changed=False)
    assert machine.without_fence() == before


def test_a_server_that_leaves_stops_using_any_credential(machine: Machine) -> None:
    machine.report(stage(), Activate(credential=ONE, challenge=challenge(), algorithm=Algorithm.ED25519))
    disarm = Disarm(credentials=(ONE,), in_use=None)

    assert machine.report(disarm).changed
    assert not (machine.base / "server" / "current").is_symlink()
    assert not machine.report(disarm).changed


@PAIRS
def test_sign_uses_what_is_in_use_and_changes_nothing(machine: Machine, pair: KeyPair) -> None:
    machine.report(
        stage(ONE, pair),
        Activate(credential=ONE, challenge=challenge(), algorithm=pair.public.algorithm),
    )
    before = machine.snapshot()
    order = Sign(challenge=challenge())
    report = machine.report(order)

    assert isinstance(report, Signed)
    assert report.credential == ONE
    assert verifies(pair.public, order.challenge, report.signature)
    assert machine.snapshot() == before


def test_one_visit_does_several_orders_and_names_the_change(machine: Machine) -> None:
    outcome = machine.run(
        stage(),
        Activate(credential=ONE, challenge=challenge(), algorithm=Algorithm.ED25519),
        Sign(challenge=challenge()),
        Survey(),
        Trust(bundle=bundle(1, ED25519)),
        Check(claims=(claim(ED25519),)),
    )

    assert isinstance(outcome, Changed)
    assert [report.kind for report in outcome.reports] == [
        "stage",
        "activate",
        "sign",
        "survey",
        "trust",
        "check",
    ]
    assert outcome.skew == timedelta(0)
