"""Files of keys between keyrelay and other programs, both ways: openssl, keytool, NSS, ssh-keygen."""

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from orchestrator.errors import WrongPasswordError
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.intake import take
from orchestrator.keys.formats.reading import read
from orchestrator.keys.formats.writing import write_private, write_public
from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret
from tests.fakes import SeededEntropy
from tests.key_files import Certified, certified

PASSWORD = Secret(b"correct horse battery")
NEW_PASSWORD = ("-passout", "file:password")
NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - other programs look at the machine's own clock

Run = Callable[..., bytes]

algorithms = pytest.mark.parametrize("algorithm", list(Algorithm))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a program in the test's folder, where ``password`` is a file; gives what it prints."""
    (tmp_path / "password").write_bytes(PASSWORD.reveal())

    def program(name: str, *arguments: str) -> bytes:
        path = shutil.which(name)
        assert path is not None, f"this test needs {name}; .ci/setup installs it"
        done = subprocess.run([path, *arguments], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "replace")
        return done.stdout

    return program


@pytest.fixture
def made(algorithm: Algorithm) -> Certified:
    return certified(algorithm, made_at=NOW)


def written(form: Format, made: Certified, folder: Path, password: Secret | None = PASSWORD) -> str:
    """The name of a new file with the private key."""
    data = write_private(
        form, made.pair, made.certificates, password, name="web-01", random=SeededEntropy("files")
    )
    (folder / f"key.{form}").write_bytes(data.reveal())
    return f"key.{form}"


def taken(folder: Path, *names: str, password: Secret | None = PASSWORD) -> Certified:
    """The key and chain that files hold."""
    found = take([read((folder / name).read_bytes(), password) for name in names], at=NOW)
    chain = found.chain.certificates if found.chain is not None else ()
    return Certified(pair=found.pair, certificates=tuple(one.opened for one in chain))


def same(one: Certified, other: Certified) -> bool:
    return one.pair.public == other.pair.public and one.certificates == other.certificates


@algorithms
def test_openssl_opens_what_is_written(made: Certified, run: Run, tmp_path: Path) -> None:
    public = made.pair.public.pem.encode()
    for form in (Format.PEM, Format.DER):
        file = written(form, made, tmp_path)
        assert run("openssl", "pkey", "-in", file, "-pubout", "-passin", "file:password") == public
    told = run("openssl", "pkcs12", "-in", written(Format.PKCS12, made, tmp_path), "-info", "-noenc",
               "-passin", "file:password")  # fmt: skip
    assert told.count(b"BEGIN CERTIFICATE") == 3
    assert b"BEGIN PRIVATE KEY" in told
    for form in (Format.PEM, Format.DER):
        clear = written(form, made, tmp_path, None)
        assert run("openssl", "pkey", "-in", clear, "-pubout") == public
    (tmp_path / "cert.der").write_bytes(
        write_public(Format.DER, made.pair.public, made.certificates, name="web-01")
    )
    assert run("openssl", "x509", "-in", "cert.der", "-pubkey", "-noout") == public


@algorithms
def test_what_openssl_writes_is_opened(made: Certified, run: Run, tmp_path: Path) -> None:
    clear = written(Format.PEM, made, tmp_path, None)
    (tmp_path / "chain.pem").write_bytes(
        b"".join(c.public_bytes(Encoding.PEM) for c in made.certificates[::-1])
    )
    run("openssl", "pkcs12", "-export", "-in", clear, "-certfile", "chain.pem", "-out", "new.p12",
        *NEW_PASSWORD)  # fmt: skip
    assert same(taken(tmp_path, "new.p12"), made)
    for options in (
        ("-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"),
        ("-v2", "des3"),
        ("-scrypt",),
        ("-v1", "PBE-SHA1-3DES"),
    ):
        run(
            "openssl",
            "pkcs8",
            "-topk8",
            "-in",
            clear,
            "-out",
            "new.p8",
            "-passout",
            "file:password",
            *options,
        )
        assert taken(tmp_path, "new.p8").pair.public == made.pair.public
        assert same(taken(tmp_path, "chain.pem", "new.p8"), made)
    if made.pair.public.algorithm is not Algorithm.ED25519:
        run("openssl", "pkey", "-in", clear, "-traditional", "-aes128", "-out", "old.pem",
            *NEW_PASSWORD)  # fmt: skip
        assert taken(tmp_path, "old.pem").pair.public == made.pair.public
        with pytest.raises(WrongPasswordError):
            taken(tmp_path, "old.pem", password=Secret(b"another"))


def test_containers_as_they_were_written_long_ago_are_opened(run: Run, tmp_path: Path) -> None:
    made = certified(Algorithm.RSA_3072, made_at=NOW)
    clear = written(Format.PEM, made, tmp_path, None)
    for options in (("-legacy",), ("-legacy", "-certpbe", "PBE-SHA1-RC2-128"), ("-nomaciter", "-noiter")):
        run(
            "openssl",
            "pkcs12",
            "-export",
            "-in",
            clear,
            "-out",
            "old.p12",
            "-passout",
            "file:password",
            *options,
        )
        assert same(taken(tmp_path, "old.p12"), made)
        with pytest.raises(WrongPasswordError):
            taken(tmp_path, "old.p12", password=Secret(b"another"))


@algorithms
def test_keytool_opens_what_is_written_and_writes_what_is_opened(
    made: Certified, run: Run, tmp_path: Path
) -> None:
    file = written(Format.PKCS12, made, tmp_path)
    told = run("keytool", "-list", "-v", "-keystore", file, "-storepass:file", "password")
    assert b"Entry type: PrivateKeyEntry" in told
    assert b"Certificate chain length: 3" in told
    run("keytool", "-importkeystore", "-srckeystore", file, "-srcstorepass:file", "password",
        "-destkeystore", "new.p12", "-deststorepass:file", "password")  # fmt: skip
    assert same(taken(tmp_path, "new.p12"), made)


@pytest.mark.parametrize("algorithm", [Algorithm.ECDSA_P256, Algorithm.RSA_3072])
def test_nss_opens_what_is_written_and_writes_what_is_opened(
    made: Certified, run: Run, tmp_path: Path
) -> None:
    file = written(Format.PKCS12, made, tmp_path)
    (tmp_path / "nss").mkdir()
    run("certutil", "-N", "-d", "sql:nss", "-f", "password")
    run("pk12util", "-i", file, "-d", "sql:nss", "-k", "password", "-w", "password")
    assert b"u,u,u" in run("certutil", "-L", "-d", "sql:nss")
    assert b"web-01" in run("certutil", "-K", "-d", "sql:nss", "-f", "password")
    run("pk12util", "-o", "new.p12", "-n", "web-01", "-d", "sql:nss", "-k", "password", "-w", "password")
    assert same(taken(tmp_path, "new.p12"), made)


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519])
def test_nss_refuses_ed25519_whole(made: Certified, run: Run, tmp_path: Path) -> None:
    # NSS 3.87 of Debian 12. When it takes them, docs/reference/key-files.md and exported_answer say so too.
    file = written(Format.PKCS12, made, tmp_path)
    (tmp_path / "cert.pem").write_bytes(made.certificates[0].public_bytes(Encoding.PEM))
    (tmp_path / "nss").mkdir()
    run("certutil", "-N", "-d", "sql:nss", "-f", "password")
    locks = ("-d", "sql:nss", "-f", "password")
    with pytest.raises(AssertionError, match="SEC_ERROR_PKCS12_UNABLE_TO_IMPORT_KEY"):
        run("pk12util", "-i", file, "-d", "sql:nss", "-k", "password", "-w", "password")
    with pytest.raises(AssertionError, match="SEC_ERROR_ADDING_CERT"):
        run("certutil", "-A", "-n", "web-01", "-t", "P,,", "-i", "cert.pem", *locks)
    assert b"web-01" not in run("certutil", "-L", "-d", "sql:nss")


@algorithms
def test_ssh_keygen_opens_what_is_written_and_writes_what_is_opened(
    made: Certified, run: Run, tmp_path: Path
) -> None:
    clear = tmp_path / written(Format.OPENSSH, made, tmp_path, None)
    clear.chmod(0o600)
    line = write_public(Format.OPENSSH, made.pair.public, (), name="web-01")
    assert run("ssh-keygen", "-y", "-f", clear.name).split()[:2] == line.split()[:2]
    run("ssh-keygen", "-p", "-f", clear.name, "-P", "", "-N", PASSWORD.reveal().decode())
    assert taken(tmp_path, clear.name).pair.public == made.pair.public
    locked = tmp_path / written(Format.OPENSSH, made, tmp_path)
    locked.chmod(0o600)
    run("ssh-keygen", "-p", "-f", locked.name, "-P", PASSWORD.reveal().decode(), "-N", "")
    assert taken(tmp_path, locked.name, password=None).pair.public == made.pair.public
    (tmp_path / "key.pub").write_bytes(line)
    if made.pair.public.algorithm is Algorithm.ED25519:
        with pytest.raises(AssertionError):
            run("ssh-keygen", "-e", "-m", "PKCS8", "-f", "key.pub")
    else:
        told = run("ssh-keygen", "-e", "-m", "PKCS8", "-f", "key.pub")
        assert read(told).publics[0].public == made.pair.public


@algorithms
def test_a_public_key_set_is_json_that_says_what_it_is_for(made: Certified) -> None:
    members = json.loads(write_public(Format.JWKS, made.pair.public, (), name="web-01"))["keys"][0]
    assert members["kid"] == made.pair.public.thumbprint
    assert members["use"] == "sig"
    assert not {"d", "p", "q", "dp", "dq", "qi"} & members.keys()
