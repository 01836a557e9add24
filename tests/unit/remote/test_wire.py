"""What a visit becomes on the wire."""

import re
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from orchestrator.errors import KeyMaterialError
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.authority import Authority, certify, make_issuer, make_request, make_root
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey, Use
from orchestrator.keys.certificate import Certificate, parse_chain
from orchestrator.keys.delegation import Delegation, Denied
from orchestrator.keys.formats.foreign import ForeignCertificate
from orchestrator.keys.material import Algorithm, generate
from orchestrator.keys.path import check_path
from orchestrator.keys.secret import Secret
from orchestrator.remote.wire import BOOTSTRAP, encode, time_needed
from orchestrator.rotation.visits import (
    Activate,
    Challenge,
    Check,
    Claim,
    CredentialId,
    Disarm,
    Erase,
    Fence,
    Generate,
    Hook,
    Order,
    Revert,
    Sign,
    Stage,
    Survey,
    Trust,
    Visit,
    Voucher,
)
from tests.authorities import new_signer
from tests.fakes import NOON, SeededEntropy

MARKER = "0123456789abcdef" * 2
ONE = CredentialId("1" * 32)
PAIR = generate(Algorithm.ED25519, random=SeededEntropy("wire"))
CHALLENGE = Challenge(fleet="fleet 1", server=HostName("server-01"), nonce="ab" * 32)
CLAIM = Claim(challenge=CHALLENGE, key=PAIR.public.spki_digest, signature="00ff")
BUNDLE = TrustBundle(
    fleet="fleet 1",
    position=Position(epoch=1, sequence=2),
    keys=(TrustedKey(public=PAIR.public, servers=("server-01",)),),
)
STAGE = Stage(
    credential=ONE,
    certificate_pem="certificate\n",
    chain_pem="",
    challenge=CHALLENGE,
    algorithm=Algorithm.ED25519,
    private_key=PAIR.private,
)


@cache
def _authority() -> Authority:
    random = SeededEntropy("wire authority")
    root = make_root(new_signer(random), fleet="fleet", now=NOON, lifetime=timedelta(days=9), random=random)
    return make_issuer(
        root, new_signer(random), fleet="fleet", now=NOON, lifetime=timedelta(days=8), random=random
    )


def fleet_issuer() -> Certificate:
    return _authority().certificate


def fleet_certificate() -> Certificate:
    return certify(
        _authority(),
        request_pem=make_request(PAIR, names=("server-01",)),
        names=("server-01",),
        now=NOON,
        not_after=NOON + timedelta(days=1),
        backdate=timedelta(minutes=1),
        random=SeededEntropy("wire certificate"),
    )


FENCE = Fence(generation=2, counter=7)


def visit(*orders: Order, fence: Fence | None = FENCE, base: str = "/base") -> Visit:
    endpoint = Endpoint(host=HostName("host-01"), address="127.0.0.1", base=base)
    return Visit(endpoint=endpoint, orders=orders, fence=fence)


def frames(*orders: Order, lease: timedelta | None = None, fence: Fence | None = FENCE) -> list[str]:
    """The lines after the program."""
    message = encode(visit(*orders, fence=fence), marker=MARKER, lease=lease).reveal()
    return message[program_size() :].decode().split("\n")


def program_size() -> int:
    found = re.fullmatch(
        r"exec sh -c 'eval \"\$\(dd bs=([0-9]+) count=1 iflag=fullblock 2>/dev/null\)\"'", BOOTSTRAP
    )
    assert found is not None
    return int(found[1])


def test_every_message_begins_with_the_same_program_of_the_size_that_the_bootstrap_reads() -> None:
    one = encode(visit(Survey()), marker=MARKER).reveal()
    other = encode(visit(STAGE, base="/other"), marker="f" * 32).reveal()

    size = program_size()
    assert one[:size] == other[:size]
    assert one[:size].endswith(b"\nmain\n")
    assert one[size:].startswith(f"keyrelay 1 {MARKER}\n".encode())
    assert not [row for row in one[:size].splitlines() if row.startswith((b"#", b" "))]


@pytest.mark.parametrize(
    ("fence", "shown"), [(None, "- - -"), (Fence(generation=3, counter=7, head="ab"), "3 7 ab")]
)
def test_a_visit_of_readings_shows_the_fence_it_is_given(fence: Fence | None, shown: str) -> None:
    assert frames(Survey(), lease=timedelta(seconds=1.2), fence=fence) == [
        f"keyrelay 1 {MARKER}",
        "/base",
        f"2 {shown} *",
        "survey brief 0b 0b",
        ".",
        "end",
        "",
    ]


def test_a_visit_tells_what_the_host_has_to_remember() -> None:
    before = Fence(generation=1, counter=6, head="cd")
    shown = [
        encode(replace(visit(Survey()), remembers=remembers), marker=MARKER).reveal().decode().split("\n")
        for remembers in ((), (before,), (replace(before, head=""),))
    ]
    assert [lines[-5].split(" ")[-1] for lines in shown] == ["-", "1.6.cd", "1.6.-"]


def test_orders_follow_each_other_with_an_end_each() -> None:
    hook = Hook(command="systemctl reload\ntrue", timeout=timedelta(seconds=9))
    prove = Hook(command="ask the service", timeout=timedelta(seconds=20))
    orders = (
        Generate(credential=ONE, algorithm=Algorithm.ECDSA_P256, names=("a.example", "b.example")),
        Activate(credential=ONE, challenge=CHALLENGE, algorithm=Algorithm.ED25519, hook=hook),
        Activate(credential=ONE, challenge=CHALLENGE, algorithm=Algorithm.ED25519, hook=hook, prove=prove),
        Revert(credential=ONE, challenge=CHALLENGE, algorithm=Algorithm.ED25519),
        Disarm(credentials=(ONE,), in_use=None),
        Erase(credentials=(ONE,)),
        Sign(challenge=CHALLENGE),
        Sign(challenge=CHALLENGE, prove=prove),
    )
    asked = ["fleet 1", "server-01", "ab" * 32]
    assert frames(*orders, lease=timedelta(seconds=60))[2:] == [
        "60 2 7 - *",
        *[f"generate {ONE} ecdsa-p256 2", "a.example", "b.example", "."],
        *[f"activate {ONE} 2l 9 - 0 back 0b", *asked, "systemctl reload", "true", "."],
        *[f"activate {ONE} 2l 9 1l 20 back 0b", *asked, "systemctl reload", "true", "ask the service", "."],
        *[f"revert {ONE} - 0 - 0 back 0b", *asked, "."],
        *["disarm - 1", ONE, "."],
        *["erase 1 0", ONE, "."],
        *["sign - 0", *asked, "."],
        *["sign 1l 20", *asked, "ask the service", "."],
        "end",
        "",
    ]


def test_a_private_key_goes_as_counted_bytes_and_texts_as_lines_or_bytes() -> None:
    key = PAIR.private.reveal()
    long = "x" * 5000 + "\n"
    first, *rest = frames(replace(STAGE, chain_pem=long))[3:]

    words = first.split(" ")
    assert words[:3] == ["stage", ONE, f"{len(key)}b"]
    assert words[4] == "1l"
    assert words[6] == "5001b"
    assert "\n".join(rest).encode() == b"".join(
        [b"fleet 1\nserver-01\n", b"ab" * 32, b"\n", key, b"certificate\n", long.encode(), b".\nend\n"]
    )
    assert frames(replace(STAGE, private_key=None))[3].split(" ")[2:4] == ["-", "-"]


def test_a_bundle_goes_with_its_keys_once_and_a_broken_copy_of_the_first_claim() -> None:
    files = BUNDLE.files()
    sent = frames(Trust(bundle=BUNDLE, claims=(CLAIM, replace(CLAIM, signature="0102"))))

    key = PAIR.public.spki_digest
    asked = ["fleet 1", "server-01", "ab" * 32, key]
    assert sent[3] == f"trust 1 2 {BUNDLE.digest} 1l 1l 3l 0b 0b 0b 1 0 3 0 0b 0"
    after = (
        "\n".join(sent[4:]).encode().removeprefix(files["edges"] + files["trust.jwks"] + files["trust.pem"])
    )
    assert after.decode().split("\n") == [
        *[key],
        *[*asked, r"\0000\0377", "-"],
        *[*asked, r"\0001\0002", "-"],
        *[*asked, r"\0000\0376", "-"],
        *[".", "end", ""],
    ]


def test_a_manifest_follows_the_rest_of_its_order_and_hooks_of_agents_follow_it() -> None:
    manifest = "keyrelay stores 1\nstore system anchors name=a lines=0\n"
    switch = Activate(
        credential=ONE, challenge=CHALLENGE, algorithm=Algorithm.ED25519, goes_back=False, stores=manifest
    )

    rows = [*manifest.splitlines(), ".", "end", ""]
    assert frames(switch)[3] == f"activate {ONE} - 0 - 0 stay 2l"
    assert frames(switch)[-5:] == rows
    assert frames(Trust(bundle=BUNDLE, stores=manifest))[3].endswith(" 1 0 0 0 2l 0")
    assert frames(Trust(bundle=BUNDLE, stores=manifest))[-5:] == rows
    hooks = (Hook(command="reload\ntrue", timeout=timedelta(seconds=9)), Hook(command="tell"))
    told = frames(Trust(bundle=BUNDLE, stores=manifest, hooks=hooks))
    assert told[3].endswith(" 1 0 0 0 2l 2")
    assert told[-10:] == [*rows[:2], "2l 9", "reload", "true", "1l 60", "tell", *rows[2:]]


def test_a_claim_that_is_vouched_for_has_a_decoy_of_its_own_with_a_broken_certificate() -> None:
    issuer, certificate = fleet_issuer(), fleet_certificate()
    vouched = replace(
        CLAIM, voucher=Voucher(certificate_pem=certificate.pem, issuer=issuer.public_key.spki_digest)
    )
    sent = frames(Check(claims=(CLAIM, vouched)))

    lines = certificate.pem.count("\n")
    vouchers = [line for line in sent if line == "-" or line.startswith(issuer.public_key.spki_digest)]
    assert sent[3] == "check 4"
    assert vouchers == [
        "-",
        f"{issuer.public_key.spki_digest} {lines}l",
        "-",
        f"{issuer.public_key.spki_digest} {lines}l",
    ]
    real, broken = parse_chain(
        "\n".join(line for line in sent if len(line) == 64 or "-----" in line or "=" in line)
    )
    assert real == certificate
    assert broken != certificate
    assert broken.public_key == certificate.public_key
    with pytest.raises(KeyMaterialError, match="was not issued by"):
        check_path([ForeignCertificate.of(one.opened) for one in (broken, issuer)])


def test_a_bundle_that_delegates_goes_with_its_issuers_and_denied_keys() -> None:
    issuer = fleet_issuer()
    delegating = TrustBundle(
        fleet="fleet 1",
        position=Position(epoch=1, sequence=2),
        keys=(TrustedKey(public=issuer.public_key, uses=(Use.CERTIFY,)),),
        delegations=(Delegation(server="server-01", issuer=issuer),),
        denied=(Denied(key=PAIR.public, expires=NOON),),
    )
    sent = frames(Trust(bundle=delegating))

    certificate = issuer.pem.splitlines()
    assert sent[3] == f"trust 1 2 {delegating.digest} 0b 1l 0b 1l 1l {len(certificate)}l 0 1 0 0 0b 0"
    assert sent[5:] == [
        f"server-01 {issuer.public_key.spki_digest} 0",
        f"{PAIR.public.spki_digest} {int(NOON.timestamp())}",
        *certificate,
        issuer.public_key.spki_digest,
        *[".", "end", ""],
    ]


def test_no_claims_have_no_decoy() -> None:
    assert frames(Check(claims=()))[3:] == ["check 0", ".", "end", ""]


def test_a_message_is_a_secret() -> None:
    assert isinstance(encode(visit(STAGE), marker=MARKER), Secret)


@pytest.mark.parametrize(
    ("wrong", "marker", "words"),
    [
        (visit(Survey()), "short", "a marker is"),
        (visit(STAGE, fence=None), MARKER, "shows a fence"),
        (visit(Check(claims=(CLAIM,) * 101)), MARKER, "at most 100 claims"),
        (
            visit(Trust(bundle=BUNDLE, claims=(CLAIM,) * 60), Check(claims=(CLAIM,) * 60)),
            MARKER,
            "at most 100",
        ),
        (visit(Survey(), base="/base\nend"), MARKER, "does not fit a line"),
        (visit(Survey(), base=""), MARKER, "does not fit a line"),
        (visit(Sign(challenge=replace(CHALLENGE, fleet="a\nb"))), MARKER, "does not fit a line"),
        (visit(Check(claims=(replace(CLAIM, signature="xy"),))), MARKER, "lowercase hexadecimal"),
        (visit(Check(claims=(replace(CLAIM, signature=""),))), MARKER, "lowercase hexadecimal"),
    ],
)
def test_what_is_no_visit_is_a_programming_error(wrong: Visit, marker: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(wrong, marker=marker)


def test_a_visit_may_take_as_long_as_its_hooks_as_often_as_they_may_run() -> None:
    hook = Hook(command="true", timeout=timedelta(seconds=100))
    order = Activate(credential=ONE, challenge=CHALLENGE, algorithm=Algorithm.ED25519, hook=hook)

    assert time_needed(visit(Survey())) == timedelta(seconds=60)
    making = [Generate(credential=ONE, algorithm=algorithm, names=("a",)) for algorithm in Algorithm]
    assert time_needed(visit(*making)) == timedelta(seconds=180)
    assert time_needed(visit(order)) == timedelta(seconds=270)
    assert time_needed(visit(replace(order, prove=hook))) == timedelta(seconds=480)
    assert time_needed(visit(Sign(challenge=CHALLENGE, prove=hook))) == timedelta(seconds=270)
    assert time_needed(visit(Trust(bundle=BUNDLE, hooks=(hook, hook)))) == timedelta(seconds=270)
    assert frames(order)[2] == "300 2 7 - *"
    filling = replace(order, stores="keyrelay stores 1\nstore a\nstore b\n")
    assert time_needed(visit(filling)) == timedelta(seconds=390)
