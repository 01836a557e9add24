import hashlib
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from orchestrator.errors import InputError, Place
from orchestrator.keys.authority import make_root
from orchestrator.keys.material import Algorithm, Random
from orchestrator.policy.desired import AcmeSpec, CommandSpec, Origin, Policy, Prove, RolloutSpec, Share
from orchestrator.policy.playbook import load_playbooks
from orchestrator.policy.sections import Service
from tests.authorities import new_signer
from tests.unit.policy.worlds import GOOD, error_of, playbook_of, read

SHIPPED = sorted((Path(__file__).parents[3] / "playbooks").glob("*.yml"))


def with_line(line: str) -> str:
    """The good playbook with one more line, the sixth; a field that it replaces is left out."""
    field = line.split(":", maxsplit=1)[0].strip()
    rest = [there for there in GOOD.splitlines() if there[2:].split(":")[0] != field]
    text = "\n".join([*rest, *["  # a line to count"] * (5 - len(rest)), line]) + "\n"
    return text.replace("  ", "- ", 1) if field == "name" else text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_playbook_is_read(path: Path) -> None:
    (play,) = load_playbooks(path)
    assert play.name == "Server-to-agent authentication"


def test_the_shipped_playbooks_are_the_four_policies_and_one_for_the_timer() -> None:
    policies = {path.stem: load_playbooks(path)[0].policy for path in SHIPPED}
    assert policies == {
        "shared": Policy.SHARED,
        "per-group": Policy.PER_GROUP,
        "per-server": Policy.PER_SERVER,
        "delegated": Policy.DELEGATED,
        "redistribute-on-expiry": Policy.PER_SERVER,
    }


def test_what_is_left_out_has_a_safe_default() -> None:
    (play,) = read(GOOD)
    assert play.key.spec().algorithm is Algorithm.ED25519
    assert play.key.spec().origin is Origin.CONTROLLER
    certificate = play.certificate.spec()
    assert certificate.lifetime == timedelta(days=365)
    assert certificate.renew_at == Fraction(2, 3)
    assert certificate.grace == timedelta(days=30)
    assert play.messages.spec().in_flight == timedelta(minutes=6)
    assert play.rollout.spec() == RolloutSpec(
        soak=timedelta(minutes=10),
        waves=(Share(number=1), Share(number=25, percent=True), Share(number=100, percent=True)),
        max_failures=Share(number=5, percent=True),
        proof_age=timedelta(hours=24),
        offline=None,
        prove=Prove.COVERED,
    )
    assert play.service is Service.FOLLOWS
    assert play.hooks is None
    assert play.group_by == ()


def test_a_section_may_give_some_of_its_fields() -> None:
    (play,) = read(with_line("  certificate: {lifetime: 30d, renew_at: 0.1}"))
    assert play.certificate.lifetime == timedelta(days=30)
    assert play.certificate.renew_at == Fraction(1, 10)
    assert play.certificate.grace == timedelta(days=30)


def test_a_rollout_may_be_told_in_full() -> None:
    rollout = "{waves: [2, 50%], max_failures: 3, soak: 1m, proof_age: 2h, offline: proceed-after 7d"
    (play,) = read(with_line(f"  rollout: {rollout}, prove: direct}}"))
    assert play.rollout.spec() == RolloutSpec(
        soak=timedelta(minutes=1),
        waves=(Share(number=2), Share(number=50, percent=True)),
        max_failures=Share(number=3),
        proof_age=timedelta(hours=2),
        offline=timedelta(days=7),
        prove=Prove.DIRECT,
    )


@pytest.mark.parametrize("waves", ["[1]", "[100%]", "[10%, 3, 25%]", "[1, 5, 10]", "[1%, 99%, 100%]"])
def test_counts_and_percentages_of_waves_each_have_to_grow(waves: str) -> None:
    assert read(with_line(f"  rollout: {{waves: {waves}, soak: 0s}}"))


@pytest.mark.parametrize(("written", "groups"), [("paris", ("paris",)), ("[paris, oslo]", ("paris", "oslo"))])
def test_group_by_is_a_name_or_a_list_of_names(written: str, groups: tuple[str, ...]) -> None:
    (play,) = read(with_line(f"  group_by: {written}"))
    assert play.group_by == groups


def test_a_file_may_have_several_plays() -> None:
    plays = read(GOOD + GOOD.replace("Test", "Other"))
    assert [play.name for play in plays] == ["Test", "Other"]
    assert plays[1].place("servers") == Place(file="p.yml", line=7, column=12)


def test_a_play_knows_its_file_and_its_places() -> None:
    (play,) = read(GOOD)
    assert play.digest == hashlib.sha256(GOOD.encode()).hexdigest()
    assert play.place("policy") == Place(file="p.yml", line=4, column=11)
    assert play.place("rollout", "soak") == Place(file="p.yml", line=1, column=3)


def test_a_play_that_was_never_written_has_no_digest_and_names_itself() -> None:
    play = playbook_of()
    assert play.digest == ""
    assert str(play.place("policy")) == "playbook Test"


def test_a_hook_replaces_service_follows() -> None:
    (play,) = read(GOOD.replace("service: follows", 'hooks: {activated: "systemctl reload {{ unit }}"}'))
    assert play.hooks is not None
    assert play.service is None


@pytest.mark.parametrize("how", ["", "  service: follows\n", "  hooks: {activated: x}\n"])
def test_a_service_that_proves_itself_may_follow_be_reloaded_or_look_by_itself(how: str) -> None:
    text = GOOD.replace("  service: follows\n", how)
    (play,) = read(f"{text}  prove_command: 'ask {{{{ unit }}}}'\n  prove_within: 2m\n")
    assert play.commands()["prove_command"] == ("ask {{ unit }}", play.place("prove_command"))
    assert play.prove_within == timedelta(minutes=2)


A_DURATION = "allowed: a duration such as 30d, 12h or 1h30m, from "
A_PATTERN = (
    "allowed: a pattern of inventory hosts, such as servers or web*:!web9, 1 to 1000 characters on one line"
)
WAITS = (
    "a handover waits 36m (3 waves x rollout.soak 10m + messages.validity 5m + 2 x messages.clock_skew 30s), "
)
A_PART = "allowed: a number of servers such as 1, or a percentage such as 25%, from 1% to 100%"
NO_GROWTH = "is not beyond the wave before; allowed: waves that grow, none after 100%"
NOT_TEXT = "which YAML did not read as text; allowed: "
FIELDS = (
    "name, servers, agents, policy, group_by, key, certificate, issuer, messages, service, rollout, hooks, "
    "prove_command, prove_within, install"
)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("  polcy: shared", f"6:3: unknown field 'polcy'; allowed here: {FIELDS}", "did you mean policy?"),
        ("  instal: []", f"6:3: unknown field 'instal'; allowed here: {FIELDS}", "did you mean install?"),
        ("  1: 2", f"6:3: unknown field 1; allowed here: {FIELDS}", ""),
        (
            "  rollout: {wave: [1]}",
            (
                "6:13: unknown field 'wave' in rollout; allowed here: waves, max_failures, soak, proof_age, "
                "offline, prove"
            ),
            "did you mean waves?",
        ),
        (
            "  rollout: {waves: 1}",
            f"6:20: rollout.waves is 1; allowed: a list of waves, each {A_PART[9:]}",
            "",
        ),
        ("  rollout: {waves: []}", "6:20: rollout.waves is an empty list; allowed: a list of waves", ""),
        ("  rollout: {waves: }", "rollout.waves is empty; allowed: a list of waves", ""),
        ("  rollout: {waves: [1, 0]}", f"6:24: rollout.waves[1] is 0; {A_PART}", ""),
        ("  rollout: {waves: [0.5]}", f"6:21: rollout.waves[0] is 0.5; {A_PART}", ""),
        ("  rollout: {waves: [yes]}", f"6:21: rollout.waves[0] is yes; {A_PART}", ""),
        (
            "  rollout: {waves: ['5']}",
            f"6:21: rollout.waves[0] is '5'; {A_PART}",
            "write the number without quotes",
        ),
        ("  rollout: {waves: [101%]}", f"6:21: rollout.waves[0] is '101%'; {A_PART}", ""),
        ("  rollout: {waves: [0%]}", f"6:21: rollout.waves[0] is '0%'; {A_PART}", ""),
        (
            "  rollout: {waves: [1, 25%, 20%]}",
            f"6:20: rollout.waves is a list whose 20% {NO_GROWTH}",
            "each wave says how many servers use the new key after it",
        ),
        ("  rollout: {waves: [2, 1]}", f"rollout.waves is a list whose 1 {NO_GROWTH}", "each wave says"),
        ("  rollout: {waves: [100%, 9]}", f"rollout.waves is a list whose 9 {NO_GROWTH}", "each wave says"),
        ("  rollout: {max_failures: 0}", f"6:27: rollout.max_failures is 0; {A_PART}", ""),
        ("  rollout: {max_failures: none}", f"6:27: rollout.max_failures is 'none'; {A_PART}", ""),
        ("  rollout: {proof_age: 59s}", f"6:24: rollout.proof_age is '59s'; {A_DURATION}1m to 30d", ""),
        (
            "  rollout: {offline: 7d}",
            (
                "6:22: rollout.offline is '7d'; allowed: block, or proceed-after and a duration such as 30d, "
                "12h or 1h30m, from 1m to 3650d"
            ),
            "",
        ),
        (
            "  rollout: {offline: proceed-after 1y}",
            "6:22: rollout.offline is 'proceed-after 1y'; allowed: block, or proceed-after",
            "",
        ),
        ("  rollout: {offline: proceed-after 59s}", "rollout.offline is 'proceed-after 59s'; allowed", ""),
        ("  rollout: {offline: no}", f"6:22: rollout.offline is no, {NOT_TEXT}block", "write it quoted"),
        ("  rollout: {prove: all}", "6:20: rollout.prove is 'all'; allowed: covered, direct", ""),
        (
            "  key: {algoritm: ed25519}",
            "6:9: unknown field 'algoritm' in key; allowed here: algorithm, origin",
            "did you mean algorithm?",
        ),
        (
            "  policy: delegate",
            "6:11: policy is 'delegate'; allowed: shared, per-group, per-server, delegated",
            "",
        ),
        (
            "  policy: on",
            f"6:11: policy is on, {NOT_TEXT}shared, per-group, per-server",
            'write it quoted: policy: "on"',
        ),
        ("  policy:", "policy is empty; allowed: shared, per-group, per-server", ""),
        (
            "  name: yes",
            f"6:9: name is yes, {NOT_TEXT}a name, 1 to 100 characters on one line",
            'write it quoted: name: "yes"',
        ),
        ("  name: 007", f"6:9: name is 007, {NOT_TEXT}a name", 'write it quoted: name: "007"'),
        (
            "  name: 2026-01-01",
            f"6:9: name is 2026-01-01, {NOT_TEXT}a name",
            'write it quoted: name: "2026-01-01"',
        ),
        ('  name: " x"', "6:9: name is ' x'; allowed: a name, 1 to 100 characters on one line", ""),
        ('  name: ""', "6:9: name is ''; allowed: a name", ""),
        ('  name: "a\\nb"', "6:9: name is 'a\\nb'; allowed: a name", ""),
        (f"  name: {'x' * 101}", "…; allowed: a name, 1 to 100 characters on one line", ""),
        ("  servers: [a, b]", "6:12: servers is a list; allowed: a pattern of inventory hosts", ""),
        ("  agents: {a: b}", "6:11: agents is a mapping; allowed: a pattern of inventory hosts", ""),
        ("  key: ed25519", "6:8: key is 'ed25519'; allowed: a mapping of algorithm, origin", ""),
        ("  key:", "key is empty; allowed: a mapping of algorithm, origin", ""),
        (
            "  key: {algorithm: rsa-2048}",
            "6:20: key.algorithm is 'rsa-2048'; allowed: ed25519, ecdsa-p256, rsa-3072",
            "",
        ),
        ("  key: {origin: here}", "6:17: key.origin is 'here'; allowed: controller, server", ""),
        (
            "  certificate: {lifetime: 365}",
            f"6:27: certificate.lifetime is 365, a number without a unit; {A_DURATION}10s to 3650d",
            "add the unit",
        ),
        (
            "  certificate: {lifetime: 5:00}",
            "6:27: certificate.lifetime is 5:00, a number without a unit",
            "add the unit",
        ),
        (
            "  certificate: {lifetime: 1y}",
            "6:27: certificate.lifetime is '1y'; allowed: a duration",
            "units are d, h, m and s",
        ),
        (
            "  certificate: {lifetime: 9s}",
            f"6:27: certificate.lifetime is '9s'; {A_DURATION}10s to 3650d",
            "",
        ),
        ("  certificate: {lifetime: 3651d}", "6:27: certificate.lifetime is '3651d'; allowed", ""),
        (
            "  certificate: {lifetime: true}",
            f"6:27: certificate.lifetime is true, {NOT_TEXT}a duration",
            "write it quoted",
        ),
        ("  certificate: {lifetime: }", "certificate.lifetime is empty; allowed: a duration", ""),
        (
            "  certificate: {renew_at: 1.0}",
            "6:27: certificate.renew_at is 1.0; allowed: a fraction between 0 and 1, such as 2/3 or 0.5",
            "",
        ),
        ("  certificate: {renew_at: 3/2}", "6:27: certificate.renew_at is '3/2'; allowed: a fraction", ""),
        ("  certificate: {renew_at: 1}", "6:27: certificate.renew_at is 1, ", ""),
        ("  certificate: {renew_at: .inf}", "6:27: certificate.renew_at is .inf; allowed: a fraction", ""),
        ("  certificate: {grace: -1d}", "6:24: certificate.grace is '-1d'; allowed: a duration", ""),
        ("  messages: {validity: 0s}", f"6:24: messages.validity is '0s'; {A_DURATION}1s to 7d", ""),
        ("  messages: {clock_skew: 2h}", f"6:26: messages.clock_skew is '2h'; {A_DURATION}1s to 1h", ""),
        ("  rollout: {soak: 31d}", "6:19: rollout.soak is '31d'; allowed: a duration", ""),
        ("  service: reload", "6:12: service is 'reload'; allowed: follows", ""),
        ("  service: no", f"6:12: service is no, {NOT_TEXT}follows", 'write it quoted: service: "no"'),
        ("  service:", "service is empty; leave it out, or give it a value", ""),
        (
            "  hooks: {}",
            "6:10: hooks: it names no command; allowed: activated, trusted, or both",
            "",
        ),
        ("  hooks: {staged: x}", "unknown field 'staged' in hooks; allowed here: activated, trusted", ""),
        ("  hooks: {trusted: }", "6:20: hooks.trusted is empty; leave it out, or give it a value", ""),
        (
            "  hooks: {trusted: \"x '{{ y }}'\"}",
            "6:20: the agent's hook is refused: a value or a condition stands inside '…'",
            "put a longer command into a script",
        ),
        ("  hooks: {activated: [x]}", "6:22: hooks.activated is a list; allowed: a command for sh", ""),
        (
            "  hooks: {activated: \"x '{{ y }}'\"}",
            "6:22: the hook is refused: a value or a condition stands inside '…'",
            "put a longer command into a script",
        ),
        ("  hooks:", "hooks is empty; leave it out, or give it a value", ""),
        ("  prove_command:", "prove_command is empty; leave it out, or give it a value", ""),
        ("  prove_command: [x]", "6:18: prove_command is a list; allowed: a command for sh", ""),
        (
            "  prove_command: \"x '{{ y }}'\"",
            "6:18: the prove_command is refused: a value or a condition stands inside '…'",
            "put a longer command into a script",
        ),
        (
            "  prove_within: 30s",
            "6:17: prove_within says how long prove_command may take to show the new key, and there is none",
            "add prove_command, or leave prove_within out",
        ),
        ("  prove_within: 11m", f"6:17: prove_within is '11m'; {A_DURATION}1s to 10m", ""),
        (
            "  group_by: []",
            "6:13: group_by is an empty list; allowed: the name of an inventory group, or a list of names",
            "",
        ),
        (
            "  group_by: {a: b}",
            "6:13: group_by is a mapping; allowed: the name of an inventory group, or a list",
            "",
        ),
        (
            "  group_by: [a, 7]",
            f"6:17: group_by[1] is 7, {NOT_TEXT}the name of an inventory group",
            'write it quoted: "7"',
        ),
        ("  group_by: [a, b, a]", "6:13: group_by names 'a' twice", ""),
        (
            "  policy: per-group",
            "6:11: group_by is missing; policy per-group cuts servers by the inventory groups it names",
            "add for example group_by: [site_a, site_b]",
        ),
        (
            "  certificate: {lifetime: 60m, renew_at: 1/2}",
            (
                f"6:16: {WAITS}which does not fit into the 30m from renew_at to the certificate's end "
                "(certificate.lifetime 1h, renew_at 1/2)"
            ),
            "make the lifetime longer, or the waits shorter",
        ),
        (
            "  certificate: {lifetime: 2h, renew_at: 1/4}",
            "which does not fit into the 30m until the next successor is due",
            "",
        ),
    ],
)
def test_a_wrong_field_is_refused_at_its_place_with_what_is_allowed(
    line: str, message: str, hint: str
) -> None:
    error = error_of(with_line(line))
    assert message in error.message
    assert error.message.startswith("p.yml:6:")
    assert error.hint.startswith(hint)


def test_a_key_may_be_kept_no_shorter_than_it_lasts() -> None:
    (play,) = read(with_line("  certificate: {lifetime: 90d, longest: 180d}"))
    assert play.certificate.spec().longest == timedelta(days=180)
    error = error_of(with_line("  certificate: {lifetime: 90d, longest: 89d}"))
    assert "certificate.longest is 89d, less than the lifetime, 90d; allowed: that or more" in error.message


def test_jitter_never_makes_a_key_due_at_once() -> None:
    (play,) = read(with_line("  certificate: {lifetime: 90d, renew_at: 2/3, jitter: 59d}"))
    assert play.certificate.spec().jitter == timedelta(days=59)
    error = error_of(with_line("  certificate: {lifetime: 90d, renew_at: 2/3, jitter: 60d}"))
    assert "6:55: certificate.jitter is 60d; a successor is due after 60d" in error.message
    tight = error_of(with_line("  certificate: {lifetime: 90d, renew_at: 2/3, jitter: 1439h50m}"))
    assert "does not fit into the 10m until the next successor is due" in tight.message


def test_a_handover_that_just_fits_is_accepted() -> None:
    read(with_line("  certificate: {lifetime: 4321s, renew_at: 0.5}"))
    assert "does not fit" in error_of(with_line("  certificate: {lifetime: 4320s, renew_at: 0.5}")).message


@pytest.mark.parametrize(
    ("waves", "needed"), [("[100%]", 16), ("[1]", 26), ("[1, 50%]", 36), ("[1, 100%]", 26)]
)
def test_every_wave_has_its_soak_the_servers_left_over_too(waves: str, needed: int) -> None:
    rollout = f"  rollout: {{waves: {waves}}}\n"
    read(with_line(f"  certificate: {{lifetime: {2 * needed * 60 + 1}s, renew_at: 1/2}}") + rollout)
    error = error_of(with_line(f"  certificate: {{lifetime: {2 * needed}m, renew_at: 1/2}}") + rollout)
    assert f"a handover waits {needed}m" in error.message


def test_shared_keys_made_on_a_server_are_refused_with_the_reason() -> None:
    error = error_of(GOOD.replace("per-server", "shared") + "  key: {origin: server}\n")
    assert error.message == (
        "p.yml:6:17: key.origin is server, but with policy shared all servers have one key; "
        "a key that never leaves its server cannot be shared"
    )
    assert error.hint == "use policy per-server, or origin: controller"


def test_agents_believe_no_authority_but_the_fleets_own() -> None:
    text = GOOD.replace("per-server", "delegated") + "  certificate: {lifetime: 80d}\n"
    error = error_of(text + "  issuer: {command: [/our-ca], root: r.pem}\n")
    assert error.message.startswith("p.yml:7:11: issuer names somebody else's authority; policy delegated")


@pytest.mark.parametrize(
    ("certificate", "message"),
    [
        (
            "{lifetime: 91d}",
            (
                "certificate.lifetime is 91d; policy delegated allows at most 90d, since agents believe any "
                "certificate until it ends"
            ),
        ),
        (
            "{lifetime: 7d}",
            "certificate.grace is 30d; policy delegated allows less than the lifetime, 7d",
        ),
    ],
)
def test_certificates_that_agents_believe_live_for_days(certificate: str, message: str) -> None:
    text = GOOD.replace("per-server", "delegated")
    error = error_of(f"{text}  certificate: {certificate}\n")
    assert error.message == f"p.yml:6:16: {message}"
    assert error.hint == "for example certificate: {lifetime: 7d, renew_at: 1/2, grace: 1d}"
    (play,) = read(f"{text}  certificate: {{lifetime: 90d}}\n  key: {{origin: server}}\n")
    assert play.policy is Policy.DELEGATED


@pytest.mark.parametrize("rest", ["", "  hooks: {trusted: x}\n"])
def test_a_play_that_does_not_say_how_the_service_takes_a_new_key_is_refused_with_the_choices(
    rest: str,
) -> None:
    error = error_of(GOOD.replace("  service: follows\n", rest))
    assert error.message == (
        "p.yml:1:3: nothing says how the service comes to use a new key; allowed: service: follows, "
        "hooks.activated with a command that reloads it, or prove_command with one that has it sign"
    )


@pytest.mark.parametrize("field", ["name", "servers", "agents", "policy"])
def test_a_field_without_a_default_must_be_there(field: str) -> None:
    lines = [line for line in GOOD.replace("- ", "  ").splitlines() if not line.startswith(f"  {field}:")]
    error = error_of("- " + "\n".join(lines).lstrip())
    assert error.message.startswith(f"p.yml:1:3: {field} is missing; allowed: ")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found nothing"),
        ("# nothing\n", "found nothing"),
        ("[]", "found an empty list"),
        (GOOD.replace("- ", "  "), "found a mapping"),
        ("shared", "found a scalar"),
    ],
)
def test_a_file_that_is_no_list_of_plays_is_refused(text: str, found: str) -> None:
    error = error_of(text)
    assert f"a playbook is a list of plays, {found}" in error.message
    assert error.hint == "begin each play with a dash: - name: …"


@pytest.mark.parametrize(
    ("item", "found"), [("- 3", "3"), ("- [1]", "a list"), ("-", "empty"), ("- x", "'x'")]
)
def test_a_list_of_something_else_is_refused(item: str, found: str) -> None:
    assert f"a play is {found}; allowed: a mapping of {FIELDS}" in error_of(item).message


def test_two_plays_of_one_name_are_refused_at_the_second() -> None:
    assert error_of(GOOD + GOOD).message.startswith("p.yml:6:9: two plays of this file are named 'Test'")


def test_all_errors_of_a_file_are_told_at_once_the_first_in_front() -> None:
    text = GOOD.replace("per-server", "nobody").replace("follows", "x") + GOOD.replace("agents: ", "agent: ")
    error = error_of(text)
    assert error.place == Place(file="p.yml", line=4, column=11)
    assert error.message.splitlines() == [
        "p.yml:4:11: policy is 'nobody'; allowed: shared, per-group, per-server, delegated",
        "and 3 more:",
        "  p.yml:5:12: service is 'x'; allowed: follows",
        f"  p.yml:6:3: agents is missing; {A_PATTERN}",
        f"  p.yml:8:3: unknown field 'agent'; allowed here: {FIELDS}",
    ]


def test_of_very_many_errors_some_are_shown_and_all_are_counted() -> None:
    lines = error_of("- 1\n" * 50).message.splitlines()
    assert lines[1] == "and 49 more:"
    assert lines[-1] == "  …"
    assert len(lines) == 23


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_playbooks(tmp_path / "none.yml")


def with_issuer(folder: Path, issuer: str) -> Path:
    path = folder / "p.yml"
    path.write_text(f"{GOOD}  issuer: {issuer}\n", encoding="utf-8")
    return path


def test_who_certifies_is_named_with_the_root_of_the_chains(tmp_path: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    random: Random = lambda size: b"\x07" * size  # noqa: E731 (a source of one line)
    root = make_root(new_signer(random), fleet="theirs", now=now, lifetime=timedelta(days=900), random=random)
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca/root.pem").write_text(f"Our root\n{root.certificate.pem}", encoding="ascii")
    (play,) = load_playbooks(
        with_issuer(tmp_path, "{command: [/our-ca, a b], root: ca/root.pem, timeout: 1m}")
    )
    assert play.issuer_spec() == CommandSpec(
        argv=("/our-ca", "a b"), root=f"Our root\n{root.certificate.pem}", timeout=timedelta(minutes=1)
    )
    assert read(GOOD)[0].issuer_spec() is None
    (tmp_path / "tls.pem").write_text(root.certificate.pem, encoding="ascii")
    acme = "{directory: 'https://a/dir', publish: [/put, x], server_ca: tls.pem, contact: a@b.example}"
    (play,) = load_playbooks(with_issuer(tmp_path, f"{{acme: {acme}, root: ca/root.pem}}"))
    assert play.issuer_spec() == AcmeSpec(
        directory="https://a/dir",
        publish=("/put", "x"),
        contact="a@b.example",
        server_ca=root.certificate.pem,
        root=f"Our root\n{root.certificate.pem}",
        timeout=timedelta(seconds=30),
    )


@pytest.mark.parametrize(
    ("issuer", "message", "hint"),
    [
        (
            "{command: [/our-ca], root: missing.pem}",
            "6:38: issuer.root is 'missing.pem': there is no such file",
            "name a file",
        ),
        (
            "{command: [/our-ca], root: p.yml}",
            "6:38: issuer.root is 'p.yml': expected certificates in PEM",
            "name a file",
        ),
        (
            "{command: [our-ca], root: r}",
            "6:21: issuer.command is a list that begins with 'our-ca'; allowed: a list",
            "PATH",
        ),
        (
            "{command: /our-ca, root: r}",
            "6:21: issuer.command is '/our-ca'; allowed: a list of a program's absolute path",
            "",
        ),
        ("{command: [], root: r}", "6:21: issuer.command is an empty list; allowed: a list", ""),
        ("{command: [/our-ca, 7], root: r}", "6:31: issuer.command[1] is 7, ", "write it quoted"),
        ("{command: [/our-ca, 'a\tb'], root: r}", "6:31: issuer.command[1] is ", ""),
        ("{command: [/our-ca]}", "6:11: issuer.root is missing; allowed: the path of a file", ""),
        ("{root: r}", "6:11: issuer has none of command and acme; allowed: one of them", ""),
        (
            "{root: r, command: [/our-ca], acme: {directory: 'https://a', publish: [/b]}}",
            "issuer has both of command and acme; allowed: one of them",
            "",
        ),
        (
            "{root: r, acme: {directory: 'http://a', publish: [/b]}}",
            "issuer.acme.directory is 'http://a'; allowed: an address that begins with https://",
            "",
        ),
        ("{root: r, acme: {directory: 'https://a'}}", "issuer.acme.publish is missing; allowed: ", ""),
        ("{root: r, acme: {publish: [/b]}}", "issuer.acme.directory is missing", ""),
        (
            "{root: r, acme: {directory: 'https://a', publish: [b]}}",
            "issuer.acme.publish is a list that begins with 'b'; allowed: a list",
            "PATH",
        ),
        (
            "{command: [/our-ca], root: r, timeout: 5m}",
            "6:50: issuer.timeout is '5m'; allowed: a duration",
            "",
        ),
        ("{command: [/our-ca], root: r, shell: yes}", "6:41: unknown field 'shell' in issuer", ""),
        ("", "issuer is empty; leave it out", ""),
    ],
)
def test_who_certifies_is_named_in_full(issuer: str, message: str, hint: str, tmp_path: Path) -> None:
    path = with_issuer(tmp_path, issuer)
    with pytest.raises(InputError) as refused:
        load_playbooks(path)
    assert message in refused.value.message
    assert hint in refused.value.hint
