"""Lists of revoked certificates, as openssl reads them."""

import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from orchestrator.errors import IssuerError
from orchestrator.keys.authority import Authority, certify, make_issuer, make_request
from orchestrator.keys.certificate import Certificate
from orchestrator.keys.material import Algorithm, Random, SpkiDigest, generate
from orchestrator.keys.revocation import CRL_BACKDATE, Reason, Revoked, is_issued_by, make_crl
from tests.authorities import new_signer

OpenSSL = Callable[..., subprocess.CompletedProcess[bytes]]
DAY = timedelta(days=1)


def leaf_of(issuer: Authority, now: datetime, random: Random) -> Certificate:
    return certify(
        issuer,
        request_pem=make_request(generate(Algorithm.ED25519, random=random), names=["web-01"]),
        names=["web-01"],
        now=now,
        not_after=now + 30 * DAY,
        backdate=timedelta(minutes=10),
        random=random,
    )


def revoked(certificate: Certificate, issuer: Authority, reason: Reason, at: datetime) -> Revoked:
    key = issuer.certificate.public_key.spki_digest
    return Revoked(
        issuer=key, serial=f"{certificate.serial:x}", ends=certificate.not_after, at=at, reason=reason
    )


def test_openssl_takes_the_list_for_the_issuers_and_refuses_what_is_on_it(
    root: Authority, issuer: Authority, now: datetime, random: Random, openssl: OpenSSL, tmp_path: Path
) -> None:
    leaves = {reason: leaf_of(issuer, now, random) for reason in Reason}
    good = leaf_of(issuer, now, random)
    entries = [revoked(leaf, issuer, reason, now - DAY) for reason, leaf in leaves.items()]
    crl = make_crl(issuer, entries, number=17, now=now, next_update=now + 7 * DAY)
    for name, text in (
        ("crl.pem", crl.pem),
        ("root.pem", root.certificate.pem),
        ("issuer.pem", issuer.certificate.pem),
        ("good.pem", good.pem),
        *((f"{reason}.pem", leaf.pem) for reason, leaf in leaves.items()),
    ):
        (tmp_path / name).write_text(text, encoding="ascii")
    (tmp_path / "crl.der").write_bytes(crl.der)

    checked = openssl("crl", "-in", "crl.pem", "-CAfile", "issuer.pem", "-noout", "-text")
    assert b"verify OK" in checked.stderr
    assert openssl("crl", "-in", "crl.der", "-inform", "DER", "-noout").returncode == 0
    text = checked.stdout.decode()
    assert "X509v3 CRL Number: \n                17" in text
    assert [line.strip() for line in text.splitlines() if line.startswith(" " * 16)][:3]
    for told in ("Key Compromise", "Superseded", "Cessation Of Operation"):
        assert told in text

    verify = (
        "verify",
        "-x509_strict",
        "-crl_check",
        "-CRLfile",
        "crl.pem",
        "-attime",
        str(int(now.timestamp())),
    )
    chain = ("-CAfile", "root.pem", "-untrusted", "issuer.pem")
    assert openssl(*verify, *chain, "good.pem").returncode == 0
    for reason in Reason:
        refused = openssl(*verify, *chain, f"{reason}.pem")
        assert refused.returncode == 2
        assert b"certificate revoked" in refused.stderr


def test_a_list_says_what_it_was_given(issuer: Authority, now: datetime) -> None:
    key = issuer.certificate.public_key.spki_digest
    entry = Revoked(issuer=key, serial="ab12", ends=now + DAY, at=now - DAY, reason=Reason.SUPERSEDED)
    foreign = Revoked(
        issuer=SpkiDigest("0" * 64), serial="cd34", ends=now + DAY, at=now, reason=Reason.KEY_COMPROMISE
    )
    made = make_crl(issuer, [entry, foreign], number=1, now=now, next_update=now + 7 * DAY)
    read = x509.load_der_x509_crl(made.der)
    assert x509.load_pem_x509_crl(made.pem.encode()) == read
    assert [one.serial_number for one in read] == [0xAB12]
    (one,) = read
    assert one.revocation_date_utc == now - DAY
    assert one.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.superseded
    assert (read.last_update_utc, read.next_update_utc) == (now - CRL_BACKDATE, now + 7 * DAY)
    assert read.is_signature_valid(issuer.signer.public_key())


def test_an_issuer_that_is_not_valid_signs_no_list(issuer: Authority, now: datetime) -> None:
    for moment in (now - 2 * DAY, now + 731 * DAY):
        with pytest.raises(IssuerError, match="signs no list now"):
            make_crl(issuer, [], number=1, now=moment, next_update=moment + DAY)
    with pytest.raises(IssuerError, match="never current"):
        make_crl(issuer, [], number=1, now=now, next_update=now)


def test_a_certificate_is_of_the_authority_whose_name_and_key_it_names(
    root: Authority, issuer: Authority, now: datetime, random: Random
) -> None:
    leaf = leaf_of(issuer, now, random)
    other = make_issuer(root, new_signer(random), fleet="orchard", now=now, lifetime=90 * DAY, random=random)
    renewed = make_issuer(root, issuer.signer, fleet="orchard", now=now, lifetime=90 * DAY, random=random)
    assert is_issued_by(leaf, issuer.certificate)
    assert is_issued_by(leaf, renewed.certificate)
    assert not is_issued_by(leaf, other.certificate)
    assert not is_issued_by(leaf, root.certificate)
