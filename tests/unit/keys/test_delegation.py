"""What a certificate vouches for: the rule itself, against forgeries that the real ``openssl`` made."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey, Use
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.delegation import Delegation, Denied, Fault, fault_of
from orchestrator.rotation.reports import Verdict
from tests.fakes import NOON
from tests.forgeries import GRACE, SERVER, Forge

EXPIRES = NOON + timedelta(days=3)


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("forge"), now=NOON)


def judged(forge: Forge, pem: str, *, grace: timedelta, at: datetime = NOON) -> Verdict:
    """As hosts say it."""
    fault = fault_of(
        parse_certificate(pem), server=SERVER, issuer=forge.issuer, grace=grace, denied=(), at=at
    )
    return Verdict.VALID if fault is None else Verdict(fault)


def test_every_forgery_is_seen_and_what_is_real_is_believed(forge: Forge) -> None:
    found = {one.name: judged(forge, one.certificate_pem, grace=GRACE) for one in forge.forgeries}
    assert found == {one.name: one.verdict for one in forge.forgeries}
    strict = {one.name: judged(forge, one.certificate_pem, grace=timedelta(0)) for one in forge.forgeries}
    assert strict == {one.name: one.strict for one in forge.forgeries}


def test_a_certificate_vouches_from_its_first_second_to_the_end_of_the_grace(forge: Forge) -> None:
    certificate = parse_certificate(forge.real)
    second = timedelta(seconds=1)
    told = {
        certificate.not_before - second: Verdict.UNCERTIFIED,
        certificate.not_before: Verdict.VALID,
        certificate.not_after + GRACE: Verdict.VALID,
        certificate.not_after + GRACE + second: Verdict.EXPIRED,
    }
    assert {at: judged(forge, forge.real, grace=GRACE, at=at) for at in told} == told


def test_an_issuer_that_has_ended_vouches_for_nobody(forge: Forge) -> None:
    late = forge.issuer.not_after + timedelta(seconds=1)
    assert judged(forge, forge.real, grace=timedelta(days=10_000), at=late) is Verdict.UNCERTIFIED


def test_an_issuer_vouches_for_no_name_that_it_may_not_certify(forge: Forge) -> None:
    certificate = parse_certificate(forge.real)
    faults = {
        domain: fault_of(
            certificate,
            server=SERVER,
            issuer=forge.limited_issuer(domain),
            grace=GRACE,
            denied=(),
            at=NOON,
        )
        for domain in ("example", "elsewhere.test")
    }
    assert faults == {"example": None, "elsewhere.test": Fault.UNCERTIFIED}


def test_a_denied_key_is_refused_whatever_else_is_right_or_wrong(forge: Forge) -> None:
    for one in forge.forgeries:
        certificate = parse_certificate(one.certificate_pem)
        spki = certificate.public_key.spki_digest
        fault = fault_of(certificate, server=SERVER, issuer=forge.issuer, grace=GRACE, denied={spki}, at=NOON)
        assert fault is Fault.DENIED


def delegating(forge: Forge, *delegations: Delegation, denied: tuple[Denied, ...] = ()) -> TrustBundle:
    return TrustBundle(
        fleet="orchard",
        position=Position(epoch=1, sequence=1),
        keys=(TrustedKey(public=forge.issuer.public_key, uses=(Use.CERTIFY,)),),
        delegations=delegations,
        denied=denied,
    )


def test_a_bundle_tells_hosts_and_applications_who_may_vouch_for_whom(forge: Forge) -> None:
    key, issuer = forge.pair().public, forge.issuer
    one = delegating(
        forge,
        Delegation(server="s2", issuer=issuer),
        Delegation(server="s1", issuer=issuer, grace=timedelta(seconds=90.5)),
        denied=(Denied(key=key, expires=EXPIRES),),
    )
    files, spki = one.files(), issuer.public_key.spki_digest
    assert list(files) == [
        "delegations",
        "denied",
        "edges",
        f"issuers/{spki}.pem",
        "trust.jwks",
        "trust.pem",
    ]
    assert files["delegations"] == f"s1 {spki} 90\ns2 {spki} 0\n".encode()
    assert files["denied"] == f"{key.spki_digest} {int(EXPIRES.timestamp())}\n".encode()
    assert files[f"issuers/{spki}.pem"] == issuer.pem.encode()
    assert files["edges"] == files["trust.pem"] == b""
    assert one.signers("s1") == ()
    assert issuer.public_key.thumbprint.encode() in files["trust.jwks"]
    assert b'"x5c"' in files["trust.jwks"]
    assert key.thumbprint.encode() in files["trust.jwks"]


def test_what_is_delegated_or_denied_is_part_of_the_content(forge: Forge) -> None:
    issuer, key = forge.issuer, forge.pair().public
    plain = Delegation(server="s1", issuer=issuer)
    told = (
        delegating(forge),
        delegating(forge, plain),
        delegating(forge, Delegation(server="s2", issuer=issuer)),
        delegating(forge, Delegation(server="s1", issuer=issuer, grace=GRACE)),
        delegating(forge, plain, denied=(Denied(key=key, expires=EXPIRES),)),
        delegating(forge, plain, denied=(Denied(key=key, expires=EXPIRES + GRACE),)),
    )
    assert len({one.content_digest for one in told}) == len(told)


def test_a_delegation_that_makes_no_sense_cannot_be_said(forge: Forge) -> None:
    issuer, key = forge.issuer, forge.pair().public
    plain = Delegation(server="s1", issuer=issuer)
    denied = Denied(key=key, expires=EXPIRES)
    with pytest.raises(ValueError, match="blanks or control"):
        Delegation(server="s 1", issuer=issuer)
    with pytest.raises(ValueError, match="less than none"):
        Delegation(server="s1", issuer=issuer, grace=-GRACE)
    with pytest.raises(ValueError, match="no time zone"):
        Denied(key=key, expires=EXPIRES.replace(tzinfo=None))
    with pytest.raises(ValueError, match="twice"):
        delegating(forge, plain, Delegation(server="s1", issuer=issuer, grace=GRACE))
    with pytest.raises(ValueError, match="no key of the bundle that certifies"):
        delegating(forge, Delegation(server="s1", issuer=forge.certificate("other")))
    with pytest.raises(ValueError, match="denied twice"):
        delegating(forge, plain, denied=(denied, denied))
    with pytest.raises(ValueError, match="nobody may vouch"):
        delegating(forge, denied=(denied,))


def test_an_expiry_is_whole_seconds_utc(forge: Forge) -> None:
    denied = Denied(key=forge.pair().public, expires=EXPIRES + timedelta(microseconds=7))
    assert denied.expires == EXPIRES
    assert denied.expires.tzinfo is UTC
