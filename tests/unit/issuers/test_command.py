"""The issuer that is a program: what it is given, what it may do, and what is believed of it."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.issuers.chosen import ChosenIssuer, why_not
from orchestrator.issuers.command import CommandIssuer
from orchestrator.issuers.embedded import EmbeddedIssuer
from orchestrator.issuers.program import MOST_BYTES
from orchestrator.keys.authority import Authority, certify, make_issuer, make_request, make_root
from orchestrator.keys.certificate import parse_certificate
from orchestrator.keys.material import Algorithm, KeyPair, generate
from orchestrator.policy.desired import CommandSpec
from orchestrator.ports import CertificateOrder, Issued
from tests.authorities import new_signer
from tests.fakes import FakeVault

NOW = datetime(2030, 1, 1, 12, 0, 0, 999, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = ("web-01",)
CALLS = count()

Script = Callable[..., CommandIssuer]


def random(size: int) -> bytes:
    return hashlib.shake_256(b"command" + next(CALLS).to_bytes(8, "big")).digest(size)


ROOT = make_root(new_signer(random), fleet="theirs", now=NOW, lifetime=3650 * DAY, random=random)
ISSUER = make_issuer(ROOT, new_signer(random), fleet="theirs", now=NOW, lifetime=730 * DAY, random=random)
PAIR = generate(Algorithm.ED25519, random=random)
ORDER = CertificateOrder(
    names=NAMES,
    request_pem=make_request(PAIR, names=NAMES),
    not_after=NOW + 90 * DAY,
    backdate=timedelta(minutes=1),
)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An issuer that is a script for sh, with the test's folder as its argument."""

    def make(text: str, *, timeout_s: float = 60, root: Authority = ROOT) -> CommandIssuer:
        path = tmp_path / "our-ca"
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        argv = (str(path), str(tmp_path), "two words; $HOME")
        timeout = timedelta(seconds=timeout_s)
        return CommandIssuer(spec=CommandSpec(argv=argv, root=root.certificate.pem, timeout=timeout))

    return make


def certified(folder: Path, *, names: tuple[str, ...] = NAMES, pair: KeyPair = PAIR, days: int = 90) -> None:
    """Put what an authority would answer into a file."""
    leaf = certify(
        ISSUER,
        request_pem=make_request(pair, names=names),
        names=names,
        now=NOW,
        not_after=NOW + days * DAY,
        backdate=timedelta(minutes=1),
        random=random,
    )
    (folder / "answer.pem").write_text(leaf.pem + ISSUER.certificate.pem, encoding="ascii")


def living(group: str) -> list[str]:
    """The processes of a group that still run; one that was killed may not have been buried yet."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, its_group, *_ = status.read_text().rpartition(")")[2].split()
            if its_group == group and state not in {"Z", "X"}:
                found.append(status.parent.name)
    return found


def refusal(issuer: CommandIssuer, order: CertificateOrder = ORDER) -> str:
    with pytest.raises(IssuerError) as refused:
        issuer.issue(order, now=NOW)
    assert refused.value.message.startswith(f"the issuer's command {issuer.spec.argv[0]} ")
    return refused.value.message.removeprefix(f"the issuer's command {issuer.spec.argv[0]} ")


def test_it_is_given_the_request_and_what_is_wanted_and_nothing_else(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified(tmp_path)
    monkeypatch.setenv("KEYRELAY_PASSPHRASE_FILE", "/somewhere")
    issuer = script(
        'cat >"$1/request"; env >"$1/env"; pwd >"$1/pwd"; printf %s "$#/$2" >"$1/argv"; cat "$1/answer.pem"'
    )
    issued = issuer.issue(ORDER, now=NOW)
    assert parse_certificate(issued.certificate_pem).public_key == PAIR.public
    assert issued.chain_pem == ISSUER.certificate.pem
    assert (tmp_path / "request").read_text() == ORDER.request_pem
    given = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert {name: value for name, value in given.items() if name not in shell} == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        "KEYRELAY_NAMES": "web-01",
        "KEYRELAY_NOT_BEFORE": "20300101115900Z",
        "KEYRELAY_NOT_AFTER": "20300401120000Z",
    }
    assert (tmp_path / "pwd").read_text() == "/\n"
    assert (tmp_path / "argv").read_text() == "2/two words; $HOME"


def test_a_program_that_reads_nothing_may_answer_all_the_same(script: Script, tmp_path: Path) -> None:
    certified(tmp_path)
    assert script('exec <&-; cat "$1/answer.pem"').issue(ORDER, now=NOW).chain_pem


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"names": ("web-01", "db-01")}, "the certificate is for web-01, db-01; expected web-01"),
        ({"days": 89}, "ends 2030-03-31T12:00:00+00:00; expected 2030-04-01T12:00:00+00:00 or later"),
        ({"days": 92}, "ends 2030-04-03T12:00:00+00:00; expected 2030-04-02T12:00:00+00:00 or before"),
        ({"pair": generate(Algorithm.ED25519, random=random)}, "0 are of the key that was to be certified"),
    ],
    ids=["names", "early", "late", "key"],
)
def test_an_answer_that_was_not_asked_for_is_not_used(
    changes: dict[str, object], why: str, script: Script, tmp_path: Path
) -> None:
    certified(tmp_path, **changes)  # type: ignore[arg-type]  # as the table has them
    told = refusal(script('cat "$1/answer.pem"'))
    assert told.startswith("answered what is not used: ")
    assert why in told


def test_a_chain_to_another_root_is_not_used(script: Script, tmp_path: Path) -> None:
    certified(tmp_path)
    other = make_root(new_signer(random), fleet="other", now=NOW, lifetime=DAY, random=random)
    assert "which is not trusted" in refusal(script('cat "$1/answer.pem"', root=other))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "echo first >&2; printf 'the \\033[31mdisk\\nis full' >&2; exit 3",
            "ended with 3: first the [31mdisk is full",
        ),
        ("exit 1", "ended with 1, and did not say why"),
        ("kill -9 $$", "was ended by signal 9, and did not say why"),
        (
            "echo hello",
            "answered what is not used: expected certificates in PEM, found none that can be read",
        ),
        ("exec cat /dev/zero", f"says more than {MOST_BYTES} bytes"),
        ("exec cat /dev/zero >&2", f"says more than {MOST_BYTES} bytes"),
    ],
)
def test_a_program_that_fails_is_named_with_what_it_said(text: str, why: str, script: Script) -> None:
    assert refusal(script(text)) == why


def test_a_program_that_cannot_be_run_is_named(script: Script, tmp_path: Path) -> None:
    issuer = script("exit 0")
    (tmp_path / "our-ca").chmod(0o644)
    assert refusal(issuer) == "cannot be run: Permission denied"
    (tmp_path / "our-ca").unlink()
    assert refusal(issuer) == "cannot be run: No such file or directory"


@pytest.mark.parametrize("text", ["exec sleep 1000", "exec >&- 2>&-; exec sleep 1000", "sleep 1000 & exit 0"])
def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(
    text: str, script: Script, tmp_path: Path
) -> None:
    told = refusal(script(f'echo $$ >"$1/pid"; {text}', timeout_s=1))
    assert told == "has not ended within 1s"
    group, tries = (tmp_path / "pid").read_text().strip(), count()
    while living(group):  # a kill takes effect when its victim runs next
        assert next(tries) < 3000
        Event().wait(0.01)


def test_a_request_that_proves_nothing_never_reaches_the_program(script: Script, tmp_path: Path) -> None:
    issuer = script('touch "$1/was-here"')
    foreign = CertificateOrder(
        names=("web-02",), request_pem=ORDER.request_pem, not_after=ORDER.not_after, backdate=DAY
    )
    with pytest.raises(KeyMaterialError, match="asks for 'web-01'"):
        issuer.issue(foreign, now=NOW)
    assert not (tmp_path / "was-here").exists()


def test_text_around_a_request_never_reaches_the_program(script: Script, tmp_path: Path) -> None:
    certified(tmp_path)
    framed = CertificateOrder(
        names=NAMES,
        request_pem=f"$(reboot)\n{ORDER.request_pem}more",
        not_after=ORDER.not_after,
        backdate=ORDER.backdate,
    )
    script('cat >"$1/request"; cat "$1/answer.pem"').issue(framed, now=NOW)
    assert (tmp_path / "request").read_text() == ORDER.request_pem


def test_an_order_goes_to_the_issuer_that_it_names(script: Script, tmp_path: Path) -> None:
    certified(tmp_path)
    own = make_issuer(ROOT, new_signer(random), fleet="ours", now=NOW, lifetime=730 * DAY, random=random)
    chosen = ChosenIssuer(
        own=EmbeddedIssuer(opened=lambda _: own, random=random), vault=FakeVault(), random=random
    )
    named = CertificateOrder(
        names=NAMES,
        request_pem=ORDER.request_pem,
        not_after=ORDER.not_after,
        backdate=ORDER.backdate,
        issuer=script('cat "$1/answer.pem"').spec,
    )

    def issuer_of(issued: Issued) -> str:
        return parse_certificate(issued.certificate_pem).issuer

    assert issuer_of(chosen.issue(ORDER, now=NOW)) == "CN=keyrelay issuer,O=ours"
    assert issuer_of(chosen.issue(named, now=NOW)) == "CN=keyrelay issuer,O=theirs"


def test_a_program_that_could_not_be_run_is_told_without_running_any(script: Script, tmp_path: Path) -> None:
    issuer = script('touch "$1/ran"')
    path = Path(issuer.spec.argv[0])
    assert (why_not(None), why_not(issuer.spec)) == ("", "")
    assert not (tmp_path / "ran").exists()

    path.chmod(0o644)
    assert (
        why_not(issuer.spec)
        == f"the issuer's command {path} cannot be run: it is no file that may be executed"
    )
    path.unlink()
    assert why_not(issuer.spec) == f"the issuer's command {path} cannot be run: No such file or directory"
    path.mkdir()
    assert why_not(issuer.spec).endswith("it is no file that may be executed")
