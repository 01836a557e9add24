import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey, Use, manifest_digest
from orchestrator.keys.material import Algorithm, PublicKey, generate

PEOPLE = tuple(
    generate(
        Algorithm.RSA_3072 if number == 11 else list(Algorithm)[number % 2],
        random=lambda size, n=number: hashlib.shake_256(b"%d" % n).digest(size),  # type: ignore[misc]
    ).public
    for number in range(12)
)
JOSE = {Algorithm.ED25519: "EdDSA", Algorithm.ECDSA_P256: "ES256", Algorithm.RSA_3072: "RS256"}
EXPIRES = datetime(2030, 6, 1, tzinfo=UTC)

servers = st.lists(st.from_regex(r"[a-z0-9._-]{1,12}", fullmatch=True), min_size=1, max_size=4).map(tuple)
moments = st.none() | st.integers(0, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
positions = st.builds(Position, epoch=st.integers(0, 2**53 - 1), sequence=st.integers(0, 2**53 - 1))
signing = st.builds(TrustedKey, public=st.sampled_from(PEOPLE), servers=servers, expires=moments)
certifying = st.builds(
    TrustedKey, public=st.sampled_from(PEOPLE), uses=st.sampled_from([(Use.CERTIFY,), (Use.LOG, Use.CERTIFY)])
)
bundles = st.builds(
    TrustBundle,
    fleet=st.text(max_size=8),
    position=positions,
    keys=st.lists(signing | certifying, max_size=6, unique_by=lambda key: key.public.pem).map(tuple),
)


def bundle(*keys: TrustedKey, epoch: int = 1, sequence: int = 42) -> TrustBundle:
    return TrustBundle(fleet="orchard", position=Position(epoch=epoch, sequence=sequence), keys=keys)


def write(bundle: TrustBundle, folder: Path) -> None:
    (folder / "keys").mkdir()
    for name, data in bundle.files().items():
        (folder / name).write_bytes(data)


@settings(deadline=None)
@given(bundles, st.data())
def test_equal_bundles_have_equal_bytes_whatever_the_order_they_were_told_in(
    one: TrustBundle, data: st.DataObject
) -> None:
    told = tuple(data.draw(st.permutations(one.keys)))
    other = TrustBundle(fleet=one.fleet, position=one.position, keys=told)
    assert other == one
    assert list(other.files().items()) == list(one.files().items())
    assert other.digest == one.digest


@settings(deadline=None)
@given(bundles)
def test_a_bundle_comes_back_from_json(one: TrustBundle) -> None:
    adapter = TypeAdapter(TrustBundle)
    assert adapter.validate_json(adapter.dump_json(one)) == one


@settings(deadline=None)
@given(bundles)
def test_the_jwks_says_all_that_the_bundle_says(one: TrustBundle) -> None:
    jwks = json.loads(one.files()["trust.jwks"])
    told = tuple(
        TrustedKey(
            public=PublicKey.from_jwk(key),
            uses=tuple(Use(use) for use in key["keyrelay_uses"]),
            servers=tuple(key.get("keyrelay_servers", ())),
            expires=datetime.fromtimestamp(key["exp"], UTC) if "exp" in key else None,
        )
        for key in jwks["keys"]
    )
    assert jwks["fleet"] == one.fleet
    assert Position(epoch=jwks["epoch"], sequence=jwks["sequence"]) == one.position
    assert told == one.keys
    assert [key["alg"] for key in jwks["keys"]] == [JOSE[key.public.algorithm] for key in one.keys]
    assert [key["kid"] for key in jwks["keys"]] == [key.public.thumbprint for key in one.keys]


@settings(deadline=None)
@given(bundles)
def test_the_edges_say_who_may_sign_and_until_when(one: TrustBundle) -> None:
    lines = one.files()["edges"].splitlines()
    assert lines == sorted(set(lines))
    told = {(server, spki) for server, spki, _ in (line.decode().split(" ") for line in lines)}
    assert told == {(server, key.public.spki_digest) for key in one.keys for server in key.servers}
    for server in {server for server, _ in told}:
        assert list(one.signers(server)) == sorted(spki for name, spki in told if name == server)
    assert one.signers("no-such-server") == ()


@settings(deadline=None)
@given(bundles, positions)
def test_only_the_position_changes_the_digest_and_not_the_content(one: TrustBundle, where: Position) -> None:
    moved = TrustBundle(fleet=one.fleet, position=where, keys=one.keys)
    assert moved.content_digest == one.content_digest
    assert (moved.digest == one.digest) is (where == one.position)


def test_another_key_server_expiry_or_use_is_another_content() -> None:
    base = TrustedKey(public=PEOPLE[0], servers=("s1",), expires=EXPIRES)
    others = (
        TrustedKey(public=PEOPLE[1], servers=("s1",), expires=EXPIRES),
        TrustedKey(public=PEOPLE[0], servers=("s1", "s2"), expires=EXPIRES),
        TrustedKey(public=PEOPLE[0], servers=("s1",), expires=EXPIRES + timedelta(seconds=1)),
        TrustedKey(public=PEOPLE[0], servers=("s1",)),
        TrustedKey(public=PEOPLE[0], servers=("s1",), uses=(Use.SIGN, Use.LOG), expires=EXPIRES),
    )
    digests = {bundle(key).content_digest for key in (base, *others)}
    assert len(digests) == 6


@pytest.mark.parametrize("shell", [["sh"], ["busybox", "sh"]], ids=" ".join)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_real_sha256sum_computes_the_same_digest(shell: list[str], count: int, tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    one = bundle(*(TrustedKey(public=key, servers=("s1",), expires=EXPIRES) for key in PEOPLE[:count]))
    write(one, tmp_path)
    names = "edges keys/*.pem trust.jwks trust.pem" if count else "edges trust.jwks trust.pem"
    printed = subprocess.run(
        [*shell, "-c", f"sha256sum {names} | sha256sum"],
        cwd=tmp_path,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    ).stdout
    assert printed.split()[0].decode() == one.digest == manifest_digest(one.files())


def test_the_bytes_of_a_known_bundle() -> None:
    one = bundle(
        TrustedKey(public=PEOPLE[0], servers=("s2", "s1"), expires=EXPIRES),
        TrustedKey(public=PEOPLE[1], uses=(Use.LOG, Use.CERTIFY)),
    )
    spki = PEOPLE[0].spki_digest
    files = one.files()
    assert list(files) == ["edges", f"keys/{spki}.pem", "trust.jwks", "trust.pem"]
    assert files["edges"] == f"s1 {spki} 1906502400\ns2 {spki} 1906502400\n".encode()
    assert files["trust.pem"] == files[f"keys/{spki}.pem"] == PEOPLE[0].pem.encode()
    assert files["trust.jwks"].endswith(b"}\n")
    jwks = json.loads(files["trust.jwks"])
    by_kid = {key["kid"]: key for key in jwks["keys"]}
    assert by_kid[PEOPLE[0].thumbprint] == {
        **PEOPLE[0].jwk,
        "kid": PEOPLE[0].thumbprint,
        "alg": "EdDSA",
        "use": "sig",
        "keyrelay_uses": ["sign"],
        "keyrelay_servers": ["s1", "s2"],
        "exp": 1906502400,
    }
    assert by_kid[PEOPLE[1].thumbprint] == {
        **PEOPLE[1].jwk,
        "kid": PEOPLE[1].thumbprint,
        "alg": "ES256",
        "use": "keyrelay-authority",
        "keyrelay_uses": ["certify", "log"],
    }


def test_an_application_that_takes_any_key_of_trust_pem_takes_no_authority() -> None:
    authority = TrustedKey(public=PEOPLE[0], uses=(Use.CERTIFY, Use.LOG))
    files = bundle(authority, TrustedKey(public=PEOPLE[1], servers=("s1",))).files()
    assert files["trust.pem"].decode() == PEOPLE[1].pem
    assert [name for name in files if name.startswith("keys/")] == [f"keys/{PEOPLE[1].spki_digest}.pem"]
    assert PEOPLE[0].spki_digest.encode() not in files["edges"]


def test_an_agent_that_listens_to_nobody_has_a_legal_empty_bundle() -> None:
    files = bundle().files()
    assert files["edges"] == files["trust.pem"] == b""
    assert json.loads(files["trust.jwks"]) == {"epoch": 1, "sequence": 42, "fleet": "orchard", "keys": []}


def test_a_key_stands_once_in_a_bundle() -> None:
    key = TrustedKey(public=PEOPLE[0], servers=("s1",))
    with pytest.raises(ValueError, match="stands twice"):
        bundle(key, TrustedKey(public=PEOPLE[0], servers=("s2",)))


def test_a_trusted_key_that_makes_no_sense_cannot_be_said() -> None:
    for use, server, words in (
        ((), (), "without a use"),
        ((Use.SIGN,), (), "names its servers"),
        ((Use.CERTIFY,), ("s1",), "no other key does"),
        ((Use.SIGN,), ("s1\ns2",), "blanks or control"),
        ((Use.SIGN,), ("s1 s2",), "blanks or control"),
        ((Use.SIGN,), ("",), "is empty"),
        ((Use.SIGN,), ("\udc80",), "blanks or control"),
    ):
        with pytest.raises(ValueError, match=words):
            TrustedKey(public=PEOPLE[0], uses=use, servers=server)


def test_an_expiry_is_whole_seconds_utc_and_needs_a_zone() -> None:
    local = datetime(2030, 6, 1, 2, 0, 0, 999999, timezone(timedelta(hours=2)))
    key = TrustedKey(public=PEOPLE[0], servers=("s1",), expires=local)
    assert key.expires == EXPIRES
    assert key.expires.tzinfo is UTC
    with pytest.raises(ValueError, match="no time zone"):
        TrustedKey(public=PEOPLE[0], servers=("s1",), expires=local.replace(tzinfo=None))


@given(positions)
def test_a_position_is_what_its_text_says(position: Position) -> None:
    assert Position.parse(str(position)) == position


@given(positions, positions)
def test_positions_are_ordered_by_epoch_and_then_by_sequence(one: Position, other: Position) -> None:
    assert (one < other) is ((one.epoch, one.sequence) < (other.epoch, other.sequence))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.",
        ".1",
        "01.2",
        "1.02",
        "-1.2",
        "1.2.3",
        " 1.2",
        "1.2\n",
        "1.9007199254740992",
        "\u0661.\u0662",
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"position|2\^53"):
        Position.parse(text)
