"""What a survey tells of stores, from lines that a host may have made up."""

import base64
import hashlib
from collections.abc import Iterable

import pytest

from orchestrator.remote.answer_lines import GarbledError
from orchestrator.remote.store_lines import LARGEST_STORES, MOST_PLACES, StoreLines
from orchestrator.rotation.observed import HeldStore, HeldStores, Obstacle, StoreState
from tests.unit.remote.test_wire import fleet_certificate

ID = "1" * 32
DIGEST = "d" * 64


def noted(lines: Iterable[str]) -> StoreLines:
    notes = StoreLines()
    for line in lines:
        word, _, rest = line.partition(" ")
        notes.take(word, rest)
    return notes


def body(pem: str) -> str:
    return "".join(pem.splitlines()[1:-1])


def test_both_roles_are_told_apart_with_what_is_in_each_place() -> None:
    certificate = fleet_certificate()
    der = hashlib.sha256(base64.b64decode(body(certificate.pem))).hexdigest()
    spki = base64.b64encode(b"a public key").decode()
    notes = noted(
        [
            f"stores server {DIGEST} {ID}",
            "store pem intact /etc/b.key",
            f"stored-key {spki}",
            "store pkcs12 changed /etc/a.p12",
            f"stored-leaf {body(certificate.pem)}",
            f"stored-certificate {body(certificate.pem)}",
            "stores agent - -",
            "store java missing /etc/k.jks keyrelay-12ab",
        ]
    )

    assert notes.obstacles() == ()
    assert notes.of("server") == HeldStores(
        digest=DIGEST,
        credential=ID,
        places=(
            HeldStore(
                kind="pem",
                place="/etc/b.key",
                state=StoreState.INTACT,
                keys=(hashlib.sha256(b"a public key").hexdigest(),),  # type: ignore[arg-type]  # a plain str
            ),
            HeldStore(
                kind="pkcs12",
                place="/etc/a.p12",
                state=StoreState.CHANGED,
                keys=(certificate.public_key.spki_digest,),
                certificates=(der,),
            ),
        ),
    )
    missing = HeldStore(kind="java", place="/etc/k.jks keyrelay-12ab", state=StoreState.MISSING)
    assert notes.of("agent") == HeldStores(digest="", credential=None, places=(missing,))
    assert StoreLines().of("agent") is None


def test_lines_that_follow_no_grammar_are_passed_over() -> None:
    notes = noted(
        [
            "store pem intact /before/any",
            "stores nobody - -",
            f"stores server {DIGEST} -",
            "stored-leaf QUJD",
            "store soap intact /etc/a",
            "store pem fine /etc/a",
            "store pem intact relative\x1b[31m",
            "store pem intact /etc/a",
            "stored-leaf no base64",
            "stored-leaf QUJDR",
            "stored-leaf QUJD",
            f"stores server {'e' * 64} {ID}",
        ]
    )

    held = notes.of("server")
    assert held is not None
    assert (held.digest, held.credential) == (DIGEST, None)
    (one,) = held.places
    assert (one.place, one.keys, one.certificates) == ("/etc/a", (), (hashlib.sha256(b"ABC").hexdigest(),))


@pytest.mark.parametrize(
    "lines",
    [
        ["stores agent - -", *["store pem intact /etc/a"] * (MOST_PLACES + 1)],
        ["stores agent - -", "stored-leaf " + "A" * LARGEST_STORES],
    ],
)
def test_more_than_any_honest_host_has_is_an_error(lines: list[str]) -> None:
    with pytest.raises(GarbledError, match="a survey has more than"):
        noted(lines)


def test_obstacles_are_told_by_role_and_made_plain() -> None:
    notes = noted(
        [
            "obstacle server /etc/b.key;/etc is missing;\x1b[31m really",
            "obstacle agent /etc/k.jks roots;keytool is not installed",
            "obstacle server ../a b c;of no place",
            "obstacle issuer /etc/a;of no role",
            "obstacle agent /etc/a;",
        ]
    )
    assert notes.obstacles() == (
        Obstacle(role="agent", place="/etc/k.jks roots", reason="keytool is not installed"),
        Obstacle(role="server", place="/etc/b.key", reason="/etc is missing;?[31m really"),
    )
    with pytest.raises(GarbledError, match="more than 1000 stores"):
        noted(["obstacle agent /etc/a;no"] * (MOST_PLACES + 1))
