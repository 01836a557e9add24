"""What a Windows machine is given to import a key: a container, its issuers, a script of our own words."""

import hashlib
import re

import pytest

from orchestrator.errors import UnsupportedKeyError
from orchestrator.inventory.model import HostName
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.windows import SCRIPT, Kit, thumbprint
from orchestrator.keys.formats.writing import write_private
from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret
from tests.fakes import SeededEntropy
from tests.key_files import Certified, certified

HOSTILE = "a'; Remove-Item C: #$(x)`\u2019"
STRINGS = re.compile(r"'([^'\r\n]*)'")


def kit_of(made: Certified, *previous: Certified) -> Kit:
    return Kit.of(
        made.pair.public.algorithm,
        HostName(HOSTILE),
        made.certificates[:2],
        [one.certificates[0] for one in previous],
    )


def script_of(kit: Kit, container: bytes = b"a container") -> str:
    return kit.files(Secret(container))[SCRIPT].reveal().decode("ascii")


@pytest.mark.parametrize("algorithm", [Algorithm.ECDSA_P256, Algorithm.RSA_3072])
def test_the_script_names_the_container_its_digest_and_the_certificates(algorithm: Algorithm) -> None:
    made, before = certified(algorithm), certified(algorithm, seed="before")
    kit = kit_of(made, before)
    script = script_of(kit)
    leaf, issuer = map(thumbprint, made.certificates[:2])
    assert f"$container = Join-Path $PSScriptRoot '{kit.container}'" in script
    assert f"$digest = '{hashlib.sha256(b'a container').hexdigest().upper()}'" in script
    assert f"$thumbprint = '{leaf}'" in script
    assert f"$issuers = @('issuer-{issuer[:16]}.cer')" in script
    assert f"$previous = @('{thumbprint(before.certificates[0])}')" in script
    assert list(kit.files(Secret(b""))) == [SCRIPT, f"issuer-{issuer[:16]}.cer", kit.container]


def test_a_first_generation_removes_nothing() -> None:
    assert "$previous = @()" in script_of(kit_of(certified(Algorithm.ECDSA_P256)))


def test_no_word_from_outside_gets_into_the_script_and_nothing_is_left_open() -> None:
    made = certified(Algorithm.ECDSA_P256, "remove-item")
    plain = certified(Algorithm.ECDSA_P256, "web-01", seed="plain")
    hostile, ordinary = script_of(kit_of(made)), script_of(kit_of(plain))
    assert STRINGS.sub("''", hostile) == STRINGS.sub("''", ordinary)
    assert "remove-item" not in hostile
    assert HOSTILE not in hostile
    assert not re.search(r"@[A-Z]+@", hostile)
    assert hostile.count("\n") == hostile.count("\r\n")


def test_windows_is_given_no_ed25519_key() -> None:
    with pytest.raises(UnsupportedKeyError, match="Windows imports no ed25519 key"):
        kit_of(certified(Algorithm.ED25519))


def test_the_container_is_bound_to_the_script_and_its_secret_is_not_in_it() -> None:
    made = certified(Algorithm.ECDSA_P256)
    container = write_private(
        Format.PKCS12,
        made.pair,
        made.certificates[:1],
        Secret(b"a password"),
        name="web-01",
        random=SeededEntropy("windows"),
    )
    files = kit_of(made).files(container)
    assert files[kit_of(made).container] == container
    assert "a password" not in files[SCRIPT].reveal().decode()
