import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
)

from orchestrator.remote.host_certificates import (
    CertificateError,
    authority_of,
    check_host_certificate,
    parse,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY, AUTHORITY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
SHA1_TYPE, SHA512_TYPE = b"\0\0\0\x07ssh-rsa", b"\0\0\0\x0crsa-sha2-512"


def travelling(line: bytes) -> bytes:
    return base64.b64decode(line.split()[1])


def authority() -> bytes:
    return travelling(AUTHORITY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def made(
    *,
    kind: SSHCertificateType = SSHCertificateType.HOST,
    names: tuple[bytes, ...] = (b"web.example",),
    days: int = 1,
) -> bytes:
    builder = (
        SSHCertificateBuilder()
        .public_key(KEY.public_key())
        .serial(1)
        .type(kind)
        .key_id(b"test")
        .valid_after(int((NOW - timedelta(days=1)).timestamp()))
        .valid_before(int((NOW + timedelta(days=days)).timestamp()))
    )
    builder = builder.valid_principals(list(names)) if names else builder.valid_for_all_principals()  # type: ignore[no-untyped-call]
    return travelling(builder.sign(AUTHORITY).public_bytes())


def check(blob: bytes, name: str = "web.example", known: bytes | None = None) -> None:
    check_host_certificate(parse(blob), name=name, authorities=[known or authority()], now=NOW)


def test_a_certificate_speaks_for_the_names_in_it_and_their_patterns() -> None:
    check(made())
    check(made(names=(b"db", b"*.EXAMPLE")))
    assert authority_of(parse(made())) == authority()


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (made(kind=SSHCertificateType.USER), "is one for users, not for hosts"),
        (made(names=(b"other",)), "is for other, not for web.example"),
        (made(names=(b"!web.example", b"other")), "is for !web.example, other, not for"),
        (made(names=()), "is for no name at all"),
        (made(days=0), "expired at 2030-01-01 00:00:00Z"),
    ],
)
def test_a_certificate_that_does_not_hold_says_why(blob: bytes, words: str) -> None:
    with pytest.raises(CertificateError) as caught:
        check(blob)
    assert words in str(caught.value)


def test_a_certificate_of_a_signer_that_cannot_be_read_is_refused() -> None:
    signer = authority()
    for part, other in ((b"ssh-ed25519", b"ssh-unknown"), (b"\0\0\0 ", b"\0\0\0\x1f")):
        damaged = made().replace(signer, signer.replace(part, other))
        with pytest.raises(CertificateError, match="cannot be used"):
            authority_of(parse(damaged))


def test_a_certificate_that_was_altered_is_not_signed_by_its_authority() -> None:
    altered = made().replace(b"web.example", b"web.examplo")

    with pytest.raises(CertificateError, match="is not signed by the authority it names"):
        check(altered, name="web.examplo")


@pytest.mark.parametrize("blob", [b"", b"\0\0\0\x04none", made()[:-3], made()[4:]])
def test_what_is_no_certificate_is_told(blob: bytes) -> None:
    with pytest.raises(CertificateError, match="is damaged or of a kind that cannot be used"):
        parse(blob)


def test_a_plain_key_is_no_certificate() -> None:
    with pytest.raises(CertificateError, match="is a plain key"):
        parse(authority())


def test_a_signature_with_sha_1_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = generate_private_key(public_exponent=65537, key_size=2048)
    line = signer.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    builder = (
        SSHCertificateBuilder()
        .public_key(KEY.public_key())
        .serial(1)
        .type(SSHCertificateType.HOST)
        .key_id(b"test")
        .valid_after(0)
        .valid_before(2**64 - 1)
        .valid_principals([b"web.example"])
    )
    blob = travelling(builder.sign(signer).public_bytes())
    check(blob, known=travelling(line))

    at = blob.rindex(SHA512_TYPE)
    rest = blob[at + len(SHA512_TYPE) :]
    old = blob[: at - 4] + (len(SHA1_TYPE) + len(rest)).to_bytes(4, "big") + SHA1_TYPE + rest
    certificate = parse(old)
    # Nobody makes a sound signature with SHA-1 here any more; that it is refused all the same is the point.
    monkeypatch.setattr(type(certificate), "verify_cert_signature", lambda _: None)
    with pytest.raises(CertificateError, match="is signed with SHA-1"):
        check_host_certificate(certificate, name="web.example", authorities=[travelling(line)], now=NOW)
