"""Answers of hosts, good and bad."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.bundle import Position, TrustBundle, TrustedKey
from orchestrator.keys.material import Algorithm, generate
from orchestrator.remote.answers import ANSWER_LIMIT_BYTES, decode
from orchestrator.remote.bundle_lines import MOST_EDGES, MOST_ISSUER_LINES, MOST_KEYS, MOST_LOADED
from orchestrator.remote.survey_lines import LARGEST_REST, MOST_CREDENTIALS, MOST_PROBLEMS
from orchestrator.rotation.observed import LATEST, HeldEdge, Problem
from orchestrator.rotation.reports import (
    Changed,
    Checked,
    Disarmed,
    Failed,
    Generated,
    Outcome,
    Refused,
    Signed,
    Staged,
    Surveyed,
    Trusted,
    Unchanged,
    Verdict,
)
from orchestrator.rotation.visits import (
    Challenge,
    Check,
    Claim,
    CredentialId,
    Disarm,
    Fence,
    Generate,
    Order,
    Sign,
    Stage,
    Survey,
    Trust,
    Visit,
    Voucher,
)
from tests.fakes import NOON, SeededEntropy

MARKER = "0123456789abcdef" * 2
TIME = f"time {int(NOON.timestamp())}"
ONE = CredentialId("1" * 32)
PAIR = generate(Algorithm.ED25519, random=SeededEntropy("answers"))
KEY = PAIR.public.spki_digest
CHALLENGE = Challenge(fleet="fleet", server=HostName("server-01"), nonce="ab" * 32)
CLAIM = Claim(challenge=CHALLENGE, key=KEY, signature="00ff")
BUNDLE = TrustBundle(
    fleet="fleet",
    position=Position(epoch=1, sequence=2),
    keys=(TrustedKey(public=PAIR.public, servers=("server-01",)),),
)
STAGE = Stage(
    credential=ONE,
    certificate_pem="c\n",
    chain_pem="c\n",
    challenge=CHALLENGE,
    algorithm=Algorithm.ED25519,
)
REQUEST = "-----BEGIN CERTIFICATE REQUEST-----\nTUlJ\n-----END CERTIFICATE REQUEST-----\n"
REQUEST_LINES = [f"request {row}" for row in REQUEST.splitlines()]
EVERY_ORDER = (
    Survey(),
    Generate(credential=ONE, algorithm=Algorithm.ED25519, names=("a",)),
    STAGE,
    Trust(bundle=BUNDLE, claims=(CLAIM,)),
    Disarm(credentials=(ONE,), in_use=None),
    Sign(challenge=CHALLENGE),
    Check(claims=(CLAIM,)),
)
EVERY_ANSWER = [
    TIME,
    *["order 1 survey", "user root", "openssl OpenSSL 3.0.0", "fence 1 2", "current x", "done unchanged"],
    *["order 2 generate", *REQUEST_LINES, "done changed"],
    *["order 3 stage", "signature 00ff", "done changed"],
    *["order 4 trust", "position 1.2", f"digest {BUNDLE.digest}", "stores -"],
    *["verdict valid", "verdict invalid"],
    "done changed",
    *["order 5 disarm", "done unchanged"],
    *["order 6 sign", f"credential {ONE}", "signature 00ff", "done unchanged"],
    *["order 7 check", f"digest {BUNDLE.digest}", "verdict untrusted", "verdict untrusted", "done unchanged"],
    "finished",
]


def visit(*orders: Order) -> Visit:
    endpoint = Endpoint(host=HostName("host-01"), address="127.0.0.1", base="/base")
    return Visit(endpoint=endpoint, orders=orders, fence=Fence(generation=1, counter=1))


def answer(*lines: str, end: bool = True) -> bytes:
    rows = ["", f"keyrelay {MARKER} begin", *lines, *([f"keyrelay {MARKER} end"] if end else []), ""]
    return "\n".join(rows).encode()


def read(*orders: Order, stdout: bytes) -> Outcome:
    return decode(
        visit(*orders),
        marker=MARKER,
        stdout=stdout,
        sent_at=NOON,
        received_at=NOON + timedelta(seconds=3),
    )


def read_survey(*lines: str) -> Surveyed:
    outcome = read(Survey(), stdout=answer(TIME, "order 1 survey", *lines, "done unchanged", "finished"))
    assert isinstance(outcome, Unchanged)
    assert isinstance(outcome.reports[0], Surveyed)
    return outcome.reports[0]


def test_reports_come_in_the_order_of_the_orders() -> None:
    outcome = read(*EVERY_ORDER, stdout=b"Welcome!" + answer(*EVERY_ANSWER) + b"bye\n")

    assert isinstance(outcome, Changed)
    assert outcome.reports[1:] == (
        Generated(credential=ONE, request_pem=REQUEST, changed=True),
        Staged(credential=ONE, signature="00ff", changed=True),
        Trusted(position=BUNDLE.position, digest=BUNDLE.digest, verdicts=(Verdict.VALID,), changed=True),
        Disarmed(credentials=(ONE,), changed=False, emptied=True),
        Signed(credential=ONE, signature="00ff"),
        Checked(digest=BUNDLE.digest, verdicts=(Verdict.UNTRUSTED,)),
    )


def test_a_visit_without_a_change_is_unchanged() -> None:
    stdout = answer(TIME, "order 1 stage", "signature 00", "done unchanged", "finished")

    assert isinstance(read(STAGE, stdout=stdout), Unchanged)


def test_a_refusal_keeps_the_reports_before_it_and_a_plain_reason() -> None:
    lines = ["order 1 stage", "signature 00", "done changed", "order 2 sign", "refused no \x1b[31mkey\u202e"]
    outcome = read(STAGE, Sign(challenge=CHALLENGE), stdout=answer(TIME, *lines))

    assert isinstance(outcome, Refused)
    assert outcome.reason == "no ?[31mkey?"
    assert len(outcome.reports) == 1


def test_a_refusal_may_come_before_the_time() -> None:
    outcome = read(STAGE, stdout=answer("refused date does not work"))

    assert isinstance(outcome, Refused)
    assert outcome.reason == "date does not work"


def test_an_answer_without_its_end_is_failed_and_keeps_what_was_reported() -> None:
    lines = [TIME, "order 1 stage", "signature 00", "done changed", "order 2 stage", "signature 00"]
    outcome = read(STAGE, STAGE, stdout=answer(*lines, end=False))

    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("the answer breaks off")
    assert len(outcome.reports) == 1


def test_no_answer_at_all_is_failed_and_shows_what_was_printed() -> None:
    assert read(STAGE, stdout=b"").kind == "failed"
    outcome = read(STAGE, stdout=b"This account is\nnot available.\x07\n")

    assert isinstance(outcome, Failed)
    assert outcome.reason == "the host did not begin to answer; it printed: This account is not available.?"


def test_an_answer_that_is_too_long_has_no_end() -> None:
    lines = [TIME, "order 1 stage", "x" * ANSWER_LIMIT_BYTES, "signature 00", "done changed", "finished"]

    assert isinstance(read(STAGE, stdout=answer(*lines)), Failed)


@pytest.mark.parametrize(
    ("order", "lines", "reason"),
    [
        (STAGE, ["order 2 stage"], "it reports order 2 stage"),
        (STAGE, ["order 1 sign"], "it reports order 1 sign"),
        (STAGE, ["order 1 stage", "done changed"], "a report has no signature"),
        (STAGE, ["order 1 stage", "signature 0", "done changed"], "a report has no signature"),
        (STAGE, ["order 1 stage", "signature 00", "done perhaps"], "an order ends with done perhaps"),
        (STAGE, ["finished"], "it ends before its last order"),
        (STAGE, ["done changed", "finished"], "it ends before its last order"),
        (EVERY_ORDER[1], ["order 1 generate", "request x", "done changed"], "a report has no request"),
        (EVERY_ORDER[3], ["order 1 trust", "position 1.2", "digest 00", "done changed"], "with the digest"),
        (
            EVERY_ORDER[3],
            ["order 1 trust", *EVERY_ANSWER[16:21], "verdict valid", "done changed"],
            "its verdicts are",
        ),
        (
            replace(EVERY_ORDER[3], stores="keyrelay stores 1\n"),
            ["order 1 trust", *EVERY_ANSWER[16:21], "done changed"],
            "with the manifest that was sent",
        ),
        (Sign(challenge=CHALLENGE), ["order 1 sign", "credential x", "done unchanged"], "no credential"),
    ],
)
def test_a_garbled_report_is_failed(order: Order, lines: list[str], reason: str) -> None:
    outcome = read(order, stdout=answer(TIME, *lines))

    assert isinstance(outcome, Failed)
    assert reason in outcome.reason


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        (["valid", "valid"], "its openssl accepts a forged signature"),
        (["invalid", "valid"], "its openssl accepts a forged signature"),
        (["untrusted", "invalid"], "its openssl accepts a forged signature"),
        (["valid"], "its verdicts are not those that were asked for"),
        (["valid", "invalid", "invalid"], "its verdicts are not those that were asked for"),
        (["valid", "fine"], "its verdicts are not those that were asked for"),
    ],
)
def test_a_host_that_passes_the_decoy_is_not_believed(verdicts: list[str], reason: str) -> None:
    said = [f"verdict {verdict}" for verdict in verdicts]
    lines = [TIME, "order 1 check", f"digest {BUNDLE.digest}", *said, "done unchanged", "finished"]
    outcome = read(Check(claims=(CLAIM,)), stdout=answer(*lines))

    assert isinstance(outcome, Failed)
    assert reason in outcome.reason


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        (["valid", "valid", "invalid", "valid"], "accepts a forged certificate"),
        (["valid", "uncertified", "invalid", "valid"], "accepts a forged certificate"),
        (["valid", "expired", "invalid", "expired"], "accepts a forged certificate"),
        (["valid", "untrusted", "invalid", "valid"], "accepts a forged certificate"),
        (["valid", "denied", "invalid", "uncertified"], "accepts a forged certificate"),
        (["valid", "valid", "valid", "uncertified"], "accepts a forged signature"),
        (["valid", "valid", "invalid"], "its verdicts are not those that were asked for"),
        (["valid", "valid", "invalid", "uncertified"], ""),
        (["untrusted", "denied", "untrusted", "denied"], ""),
        (["valid", "expired", "invalid", "uncertified"], ""),
    ],
)
def test_a_host_that_passes_the_decoy_of_a_certificate_is_not_believed(
    verdicts: list[str], reason: str
) -> None:
    vouched = replace(CLAIM, voucher=Voucher(certificate_pem="", issuer=KEY))
    said = [f"verdict {verdict}" for verdict in verdicts]
    lines = [TIME, "order 1 check", f"digest {BUNDLE.digest}", *said, "done unchanged", "finished"]
    outcome = read(Check(claims=(CLAIM, vouched)), stdout=answer(*lines))

    if reason:
        assert isinstance(outcome, Failed)
        assert reason in outcome.reason
    else:
        assert isinstance(outcome, Unchanged)
        assert outcome.reports == (
            Checked(digest=BUNDLE.digest, verdicts=(Verdict(verdicts[0]), Verdict(verdicts[1]))),
        )


@pytest.mark.parametrize(
    ("seconds", "skew"),
    [
        (0, timedelta(0)),
        (3, timedelta(0)),
        (5, timedelta(seconds=2)),
        (-1, timedelta(0)),
        (-11, timedelta(seconds=-10)),
    ],
)
def test_skew_is_the_distance_of_the_hosts_second_from_the_visit(seconds: int, skew: timedelta) -> None:
    time = f"time {int(NOON.timestamp()) + seconds}"
    outcome = read(STAGE, stdout=answer(time, "order 1 stage", "signature 00", "done changed", "finished"))

    assert isinstance(outcome, Changed)
    assert outcome.skew == skew


@pytest.mark.parametrize("time", ["time", "time -1", "time 99999999999", "time 1e3", "hello"])
def test_a_host_without_a_sound_clock_is_failed(time: str) -> None:
    assert isinstance(read(STAGE, stdout=answer(time, "finished")), Failed)


def test_a_survey_maps_what_was_said() -> None:
    report = read_survey(
        "user root\x00",
        "openssl",
        "fence 3 4",
        f"current credentials/{ONE}",
        f"held server/credentials/{ONE}",
        f"hash {'0' * 64}",
        "certificate not one",
        *[f"key {row}" for row in PAIR.public.pem.splitlines()],
        "held server/disarmed/old",
        "held elsewhere/x",
        "bundle bundles/1.2",
        f"digest {BUNDLE.digest}",
        f"edge server-01 {KEY} 99",
        *[f"public {row}" for row in PAIR.public.pem.splitlines()],
    )

    survey = report.survey
    assert (survey.user, survey.openssl, survey.fence, survey.current) == ("root?", "", (3, 4), ONE)
    assert [(held.name, held.disarmed, held.key) for held in survey.credentials] == [
        (ONE, False, KEY),
        ("old", True, None),
    ]
    assert survey.credentials[0].certificate_digest == "0" * 64
    assert survey.bundle is not None
    assert survey.bundle.edges == (HeldEdge(server=HostName("server-01"), key=KEY, expires=99),)
    assert survey.bundle.keys == (KEY,)
    assert survey.problems == ()


@pytest.mark.parametrize(
    ("lines", "path", "found"),
    [
        (["fence x"], "/base/fence", "the line x"),
        (["current ../x"], "/base/server/current", "a link to ../x"),
        ([f"current credentials/{ONE}"], "/base/server/current", "a link that leads nowhere"),
        (["bundle bundles/01.2"], "/base/agent/current", "a link to bundles/01.2"),
        (["bundle bundles/1.2"], "/base/agent/current", "a link that leads nowhere"),
        (["bundle bundles/1.2", f"digest {KEY}", "edge x"], "/base/agent/current/edges", "line 1: x"),
        (
            ["bundle bundles/1.2", f"digest {KEY}", "public x"],
            "/base/agent/current/keys",
            "a file that holds no public key",
        ),
        (
            ["bundle bundles/1.2", f"digest {KEY}", f"delegation a {KEY} x"],
            "/base/agent/current/delegations",
            f"line 1: a {KEY} x",
        ),
        (["bundle bundles/1.2", f"digest {KEY}", "denied x"], "/base/agent/current/denied", "line 1: x"),
        (
            ["bundle bundles/1.2", f"digest {KEY}", "issuer x"],
            "/base/agent/current/issuers",
            "a file that holds no certificate",
        ),
        (["problem mode 777;mode 755;."], "/base", "mode 777"),
        (["problem mode 777;mode 755;/etc"], "/etc", "mode 777"),
    ],
)
def test_what_does_not_fit_is_a_problem(lines: list[str], path: str, found: str) -> None:
    problems = read_survey("user root", *lines).survey.problems

    assert [(problem.path, problem.found) for problem in problems] == [(path, found)]


def test_of_one_path_the_first_problem_is_kept() -> None:
    problems = read_survey("problem a;b;server", "problem c;d;server").survey.problems

    assert problems == (Problem(path="/base/server", found="a", wanted="b"),)


@pytest.mark.parametrize(
    ("line", "most", "what"),
    [
        ("held server/credentials/x", MOST_CREDENTIALS, "credentials"),
        ("loaded bundles/1.1", MOST_LOADED, "bundles"),
        ("edge x", MOST_EDGES, "edges"),
        ("delegation x", MOST_EDGES, "delegations"),
        ("denied x", MOST_EDGES, "denied keys"),
        ("issuer x", MOST_ISSUER_LINES, "lines of issuers"),
        ("public -----BEGIN PUBLIC KEY-----", MOST_KEYS, "keys"),
        ("certificate x", LARGEST_REST // 13, "characters"),
        ("", LARGEST_REST, "characters"),
    ],
)
def test_a_survey_larger_than_any_honest_one_is_garbled(line: str, most: int, what: str) -> None:
    def outcome(number: int) -> Outcome:
        lines = [TIME, "order 1 survey", *[line] * number, "done unchanged", "finished"]
        return read(Survey(), stdout=answer(*lines))

    assert isinstance(outcome(most), Unchanged)
    failed = outcome(most + 1)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("the answer is garbled: a survey has more than ")
    assert what in failed.reason


def test_the_bundles_of_one_host_together_are_bounded_as_well() -> None:
    key = "public -----BEGIN PUBLIC KEY-----"

    def outcome(last: int) -> Outcome:
        bundles = ["bundle bundles/1.9", *[key] * MOST_KEYS, "loaded bundles/1.8", *[key] * MOST_KEYS]
        lines = [TIME, "order 1 survey", *bundles, "loaded bundles/1.7", *[key] * last]
        return read(Survey(), stdout=answer(*lines, "done unchanged", "finished"))

    assert isinstance(outcome(0), Unchanged)
    failed = outcome(1)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith(f"the answer is garbled: its bundles have more than {2 * MOST_KEYS} keys")


def test_of_many_problems_the_first_are_kept_and_the_others_counted() -> None:
    lines = [f"problem mode 666;mode 600;server/{number:04}" for number in range(1000)]
    problems = read_survey(*lines).survey.problems

    assert len(problems) == MOST_PROBLEMS + 1
    assert problems[0] == Problem(path="/base/*", found="900 more problems", wanted="none")
    assert problems[-1].path == "/base/server/0099"


def test_of_many_damaged_edges_the_first_is_told() -> None:
    problems = read_survey("bundle bundles/1.2", f"digest {KEY}", "edge a", "edge b").survey.problems

    assert [problem.found for problem in problems] == ["line 1: a"]


BEYOND = int(LATEST.timestamp()) + 1
DIGEST = "a" * 64


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (f"edge server-1 {DIGEST} {BEYOND}", "agent/current/edges"),
        (f"edge server-1 {DIGEST} 999999999999", "agent/current/edges"),
        (f"denied {DIGEST} {BEYOND}", "agent/current/denied"),
        (f"delegation server-1 {DIGEST} 999999999999", "agent/current/delegations"),
        (f"ended {DIGEST} removed {BEYOND}", "ended"),
    ],
)
def test_an_instant_or_a_grace_beyond_the_calendar_is_a_damaged_line(line: str, path: str) -> None:
    survey = read_survey("bundle bundles/1.2", f"digest {KEY}", line).survey

    assert [problem.path for problem in survey.problems] == [f"/base/{path}"]
    assert survey.ended == ()
    assert survey.bundle is not None
    assert [*survey.bundle.edges, *survey.bundle.denied, *survey.bundle.delegations] == []


def test_the_last_instant_that_a_host_is_believed_is_read() -> None:
    line = f"edge server-1 {DIGEST} {BEYOND - 1}"
    survey = read_survey("bundle bundles/1.2", f"digest {KEY}", line).survey

    assert survey.problems == ()
    assert survey.bundle is not None
    assert survey.bundle.edges[0].expires == BEYOND - 1


def test_a_certificate_longer_than_any_is_none() -> None:
    long = ["certificate " + "A" * 64] * 100_000
    (held,) = read_survey("held server/credentials/x", *long, f"hash {KEY}").survey.credentials

    assert (held.certificate_key, held.certificate_digest) == (None, KEY)


def test_a_key_of_a_kind_unknown_here_is_known_by_its_encoding() -> None:
    lines = ["-----BEGIN PUBLIC KEY-----", "AAAA", "-----END PUBLIC KEY-----"]
    held = read_survey("held server/credentials/x", *[f"key {row}" for row in lines]).survey.credentials

    assert held[0].key == "709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c"


WORDS = sorted({line.split(" ")[0] for line in EVERY_ANSWER})
MORE = ["refused", "failed", "held", "certificate", "key", "edge", "bundle", "public", "problem", "hash"]
LINES = st.one_of(
    st.sampled_from(EVERY_ANSWER),
    st.builds("{} {}".format, st.sampled_from(WORDS + MORE), st.text(max_size=80)),
    st.text(max_size=40),
)
TIMES = st.datetimes(timezones=st.just(UTC))


@given(stdout=st.binary(max_size=400), sent_at=TIMES, received_at=TIMES)
@example(stdout=answer(), sent_at=NOON, received_at=NOON)
@example(stdout=answer(end=False)[:-1], sent_at=NOON, received_at=NOON)
def test_any_bytes_give_an_outcome(stdout: bytes, sent_at: datetime, received_at: datetime) -> None:
    for bytes_read in (stdout, answer(TIME, end=False) + stdout, answer() + stdout):
        decode(
            visit(*EVERY_ORDER), marker=MARKER, stdout=bytes_read, sent_at=sent_at, received_at=received_at
        )


@given(lines=st.lists(LINES, max_size=30), end=st.booleans())
def test_any_lines_give_an_outcome(lines: list[str], *, end: bool) -> None:
    outcome = read(*EVERY_ORDER, stdout=answer(TIME, *lines, end=end))

    assert outcome.host == "host-01"


@given(data=st.data())
def test_an_answer_with_a_line_lost_doubled_or_replaced_gives_an_outcome(data: st.DataObject) -> None:
    lines = list(EVERY_ANSWER)
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place : place + 1] = data.draw(st.lists(LINES, max_size=3))
    read(*EVERY_ORDER, stdout=answer(*lines))


@given(cut=st.integers(0, len(answer(*EVERY_ANSWER)) - 2))
def test_a_cut_answer_is_never_a_success(cut: int) -> None:
    assert isinstance(read(*EVERY_ORDER, stdout=answer(*EVERY_ANSWER)[:cut]), Failed)
