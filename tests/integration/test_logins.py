"""Who logs in and who is believed: agents, passphrases, certificates of users and hosts, first use."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.inventory.endpoints import Become
from orchestrator.inventory.model import Endpoint
from orchestrator.lab import HostOptions, Lab
from orchestrator.remote.first_use import accepted_keys
from orchestrator.remote.fleet import SshFleet
from orchestrator.remote.known_hosts import KnownHosts
from tests.conftest import MakeLab
from tests.integration.ways import (
    Person,
    certify,
    endpoints,
    fleet,
    make_key,
    reached,
    ssh_agent,
    survey,
    surveys,
    unreachable,
    why,
    without_key,
)

SERVER = "server-01"
PAST, FUTURE = "20200101Z:20210101Z", "20400101Z:20500101Z"


@pytest.fixture
def ways() -> Iterator[SshFleet]:
    with fleet() as ssh:
        yield ssh


def lock(key: Path) -> Path:
    """Encrypts a private key with a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", key], check=True)
    return key


def test_an_agent_logs_in_where_no_key_is_named(
    lab: Lab, tmp_path: Path, ways: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_agent(tmp_path / "agent", lab.key_file) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        outcomes = surveys(ways, [without_key(where) for where in endpoints(lab).values()])

    assert all(reached(outcome) for outcome in outcomes.values())


def test_an_agent_that_is_gone_and_no_key_besides_are_told(
    lab: Lab, tmp_path: Path, ways: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))

    said = unreachable(survey(ways, without_key(endpoints(lab)[SERVER])))

    assert f"can be used, and there is no ssh-agent at {tmp_path}/gone (SSH_AUTH_SOCK or" in said


def test_all_keys_are_tried_in_order_and_named_when_none_is_accepted(
    lab: Lab, tmp_path: Path, home: Path, ways: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, default = make_key(tmp_path / "held", "-t", "ed25519", "-C", "laptop"), home / ".ssh" / "id_ed25519"
    make_key(default)
    with ssh_agent(tmp_path / "agent", held) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        said = unreachable(survey(ways, without_key(endpoints(lab)[SERVER])))

    assert re.fullmatch(
        rf"no such user or key not accepted for '{lab.user}': tried ssh-agent's key 'laptop' \(SHA256:\S+\), "
        rf"then login key {default}; its public key belongs into authorized_keys of '{lab.user}' there; "
        r"passwords \(ansible_password\) are never used",
        said,
    )


def test_a_host_that_hangs_up_after_too_many_keys_is_told_with_what_was_tried(
    lab: Lab, tmp_path: Path, ways: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [make_key(tmp_path / f"key{number}") for number in range(7)]
    with ssh_agent(tmp_path / "agent", *keys) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        said = unreachable(survey(ways, without_key(endpoints(lab)[SERVER])))

    assert "closed the connection during the login, after 6 keys were tried (ssh-agent's key" in said
    assert "(MaxAuthTries): name the right one with ansible_ssh_private_key_file" in said


def test_an_agent_that_refuses_to_sign_is_told(
    lab: Lab, tmp_path: Path, ways: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    with ssh_agent(tmp_path / "agent") as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        subprocess.run(["ssh-add", "-q", "-c", lab.key_file], check=True, capture_output=True)
        said = unreachable(survey(ways, without_key(endpoints(lab)[SERVER])))

    assert said.startswith("ssh-agent did not sign with ssh-agent's key '")
    assert said.endswith("key cannot be used for signing")


def test_the_passphrase_of_a_key_is_asked_for_once_for_all_hosts(lab: Lab) -> None:
    lock(lab.key_file)
    question = f"Passphrase of the login key {lab.key_file}"
    person = Person({question: "open sesame"})

    with fleet(person) as ssh:
        for _ in range(2):
            outcomes = surveys(ssh, list(endpoints(lab).values()))
            assert all(reached(outcome) for outcome in outcomes.values())

    assert person.asked == [question]


def test_a_wrong_passphrase_is_told_and_asked_for_once(lab: Lab) -> None:
    lock(lab.key_file)
    person = Person({f"Passphrase of the login key {lab.key_file}": "open barley"})

    with fleet(person) as ssh:
        outcomes = surveys(ssh, list(endpoints(lab).values()))

    for outcome in outcomes.values():
        assert unreachable(outcome) == (
            f"the passphrase for login key {lab.key_file} is wrong; ssh-keygen -yf {lab.key_file} tries one"
        )
    assert len(person.asked) == 1


def test_without_anybody_to_ask_an_encrypted_key_is_told_with_what_to_do(lab: Lab, ways: SshFleet) -> None:
    lock(lab.key_file)

    assert unreachable(survey(ways, endpoints(lab)[SERVER])) == (
        f"login key {lab.key_file} is encrypted, and there is nobody to ask for its passphrase; "
        f"ssh-add {lab.key_file} gives it to ssh-agent"
    )


def test_no_passphrase_is_asked_for_where_another_key_is_accepted(
    lab: Lab, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(home / ".ssh" / "id_ed25519", passphrase="never asked")
    person = Person()
    with ssh_agent(tmp_path / "agent", lab.key_file) as socket, fleet(person) as ssh:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        assert reached(survey(ssh, without_key(endpoints(lab)[SERVER])))

    assert person.asked == []


def test_a_run_that_is_ended_while_somebody_is_asked_ends(lab: Lab) -> None:
    lock(lab.key_file)

    class Leaves(Exception):  # noqa: N818 - somebody, not an error
        pass

    def leave(question: object) -> None:
        raise Leaves(str(question))

    person = Person()
    with fleet(person) as ssh:
        ssh._answers._ask = leave
        with pytest.raises(Leaves, match="Passphrase"):
            surveys(ssh, list(endpoints(lab).values()))


@pytest.fixture
def authority(lab_folder: Path) -> Path:
    return make_key(lab_folder / "authority")


def trusting(lab_folder: Path, *more: str) -> HostOptions:
    """A host that lets in whom the authority certifies, and nobody else."""
    return HostOptions(
        config=(
            f"TrustedUserCAKeys {lab_folder}/authority.pub",
            "AuthorizedKeysFile none",
            "PubkeyAcceptedAlgorithms ssh-ed25519-cert-v01@openssh.com,ssh-ed25519",
            *more,
        )
    )


def test_a_certificate_beside_the_key_logs_in(
    make_lab: MakeLab, lab_folder: Path, authority: Path, ways: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: trusting(lab_folder)})
    where = endpoints(lab)[SERVER]
    assert "key not accepted" in unreachable(survey(ways, where))

    certify(lab.key_file, authority, "-n", lab.user)

    with fleet() as later:
        assert reached(survey(later, where))
    with ssh_agent(lab_folder / "agent", lab.key_file) as socket, fleet() as later:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        assert reached(survey(later, without_key(where)))


KINDS = {
    "ed25519": ("-t", "ed25519"), "ecdsa": ("-t", "ecdsa", "-b", "384"), "rsa": ("-t", "rsa", "-b", "3072"),
}  # fmt: skip
ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp384", "rsa-sha2-512", "rsa-sha2-256")
ALL = ",".join([*(f"{name}-cert-v01@openssh.com" for name in ALGORITHMS), *ALGORITHMS])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signer", KINDS)
def test_keys_of_every_kind_log_in_bare_certified_and_from_an_agent(
    make_lab: MakeLab, lab_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, signer: str
) -> None:
    key, authority = (
        make_key(lab_folder / "key", *KINDS[kind]),
        make_key(lab_folder / "authority", *KINDS[signer]),
    )
    accepted = HostOptions(config=(f"PubkeyAcceptedAlgorithms {ALL}", f"AuthorizedKeysFile {key}.pub"))
    certified = HostOptions(
        config=(
            f"PubkeyAcceptedAlgorithms {ALL}",
            f"TrustedUserCAKeys {authority}.pub",
            "AuthorizedKeysFile none",
        )
    )
    lab = make_lab(servers=2, agents=0, options={SERVER: accepted, "server-02": certified})
    certify(key, authority, "-n", lab.user)
    where = [replace(one, key_file=str(key)) for one in endpoints(lab).values()]

    with fleet() as ssh:
        assert all(reached(outcome) for outcome in surveys(ssh, where).values())
    with ssh_agent(lab_folder / "agent", key) as socket, fleet() as ssh:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        outcomes = surveys(ssh, [without_key(one) for one in where])
        assert all(reached(outcome) for outcome in outcomes.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signer", KINDS)
def test_hosts_with_keys_of_every_kind_are_believed_bare_and_certified(
    make_lab: MakeLab, lab_folder: Path, kind: str, signer: str
) -> None:
    key, authority = (
        make_key(lab_folder / "key", *KINDS[kind]),
        make_key(lab_folder / "authority", *KINDS[signer]),
    )
    certificate = certify(key, authority, "-h", "-n", "127.*")
    algorithms = (f"HostKey {key}", f"HostKeyAlgorithms {ALL}")
    options = {
        SERVER: HostOptions(config=algorithms),
        "server-02": HostOptions(config=(*algorithms, f"HostCertificate {certificate}")),
    }
    lab = make_lab(servers=2, agents=0, options=options)
    bare, shown = endpoints(lab).values()
    known = lab_folder / "known"
    known.write_text(
        f"[{bare.address}]:{bare.port} {Path(f'{key}.pub').read_text()}"
        f"@cert-authority [{shown.address}]:{shown.port} {Path(f'{authority}.pub').read_text()}"
    )

    with fleet() as ssh:
        outcomes = surveys(ssh, [replace(one, known_hosts=str(known)) for one in (bare, shown)])
    assert all(reached(outcome) for outcome in outcomes.values())


@pytest.mark.parametrize(
    ("validity", "words"),
    [(PAST, "expired at 2021-01-01 00:00:00Z: have it signed anew"), (FUTURE, "is not valid before 2040")],
)
def test_a_certificate_out_of_its_time_is_told_as_such(
    make_lab: MakeLab, lab_folder: Path, authority: Path, ways: SshFleet, validity: str, words: str
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: trusting(lab_folder)})
    certificate = certify(lab.key_file, authority, "-n", lab.user, "-V", validity)

    said = unreachable(survey(ways, endpoints(lab)[SERVER]))

    assert f"tried login key {lab.key_file}; not tried: certificate {certificate} {words}" in said


def test_a_certificate_for_another_user_is_named_among_what_was_tried(
    make_lab: MakeLab, lab_folder: Path, authority: Path, ways: SshFleet
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: trusting(lab_folder)})
    certificate = certify(lab.key_file, authority, "-n", "somebody-else")

    said = unreachable(survey(ways, endpoints(lab)[SERVER]))

    assert f"tried certificate {certificate}, then login key {lab.key_file};" in said
    assert f"; certificate {certificate} is for somebody-else, signed by SHA256:" in said
    assert "TrustedUserCAKeys" in said
    assert "authorized_keys" not in said


@pytest.mark.parametrize("become", [None, Become()])
def test_a_certificate_with_a_command_of_its_own_is_named_when_that_ran(
    make_lab: MakeLab, lab_folder: Path, authority: Path, ways: SshFleet, become: Become | None
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: trusting(lab_folder)})
    certificate = certify(lab.key_file, authority, "-n", lab.user, "-O", "force-command=/bin/false")
    where = replace(endpoints(lab)[SERVER], user=lab.user, become=become and replace(become, user="nobody"))

    said = why(survey(ways, where))

    assert f"ran than what was asked for: certificate {certificate} has force-command '/bin/false'" in said
    assert "status 1" in said


@pytest.fixture
def certified(make_lab: MakeLab, lab_folder: Path) -> Lab:
    """A host that shows a certificate once there is one, and a restart."""
    certificate = lab_folder / "host-cert.pub"
    options = HostOptions(
        config=(
            "HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com,ssh-ed25519",
            f"HostCertificate {certificate}",
        )
    )
    certificate.touch()
    return make_lab(servers=1, agents=0, options={SERVER: options})


def show(lab: Lab, authority: Path, *options: str) -> Endpoint:
    """Has the host's key certified; the host is known by the authority alone."""
    key = lab.directory / "control" / SERVER / "host_key"
    certify(key, authority, "-h", *options).rename(lab.directory.parent / "host-cert.pub")
    lab.stop(SERVER)
    lab.start(SERVER)
    known = lab.directory / "authorities"
    where = endpoints(lab)[SERVER]
    known.write_text(f"@cert-authority [127.*]:{where.port} {Path(f'{authority}.pub').read_text()}")
    return replace(where, known_hosts=str(known))


def test_a_host_is_believed_by_its_certificate(certified: Lab, authority: Path, ways: SshFleet) -> None:
    where = show(certified, authority, "-n", certified.host(SERVER).address, "-V", "-1d:+1d")

    assert reached(survey(ways, where))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-n", "other.example"), "is for other.example, not for 127."),
        ((), "is for no name at all, not for 127."),
        (("-n", "127.*", "-V", PAST), "expired at 2021-01-01 00:00:00Z"),
        (("-n", "127.*", "-V", FUTURE), "is not valid before 2040-01-01 00:00:00Z"),
        (
            ("-n", "127.*", "-O", "critical:new@example.com=x"),
            "has critical options that are not known: new@example",
        ),
    ],
)
def test_a_certificate_that_does_not_speak_for_its_host_lets_nobody_in(
    certified: Lab, authority: Path, ways: SshFleet, options: tuple[str, ...], words: str
) -> None:
    where = show(certified, authority, *options)

    said = unreachable(survey(ways, where))

    assert said.startswith(f"host certificate of '{SERVER}' {words}")
    assert f"(its authority: {where.known_hosts}:1); have its key signed anew with ssh-keygen -s" in said


def test_a_certificate_by_an_unknown_authority_leaves_the_bare_key(
    certified: Lab, authority: Path, lab_folder: Path, ways: SshFleet
) -> None:
    where = show(certified, authority, "-n", "127.*")
    other = make_key(lab_folder / "other")
    known = Path(where.known_hosts or "")
    authorities = f"@cert-authority * {Path(f'{other}.pub').read_text()}"
    known.write_text(authorities)

    said = unreachable(survey(ways, where))
    known.write_text(f"{authorities}{certified.known_hosts.read_text()}")
    with fleet() as later:
        assert reached(survey(later, where))

    assert "is unknown: found SHA256:" in said
    assert "its certificate is signed by SHA256:" in said
    assert "which no @cert-authority line names" in said


@pytest.mark.parametrize("what", ["authority", "key"])
def test_a_revoked_authority_or_key_ends_a_certificate(
    certified: Lab, authority: Path, ways: SshFleet, what: str
) -> None:
    where = show(certified, authority, "-n", "127.*")
    revoked = authority if what == "authority" else certified.directory / "control" / SERVER / "host_key"
    known = Path(where.known_hosts or "")
    known.write_text(f"{known.read_text()}@revoked * {Path(f'{revoked}.pub').read_text()}")

    said = unreachable(survey(ways, where))

    assert said.startswith(f"host key of '{SERVER}' is revoked: found SHA256:")
    assert said.endswith(f"({known}:2); give the host a new key, for whoever holds this one can pose as it")


def test_hashed_names_are_found(lab: Lab, ways: SshFleet) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", lab.known_hosts], check=True, capture_output=True)
    assert lab.known_hosts.read_text().startswith("|1|")

    assert reached(survey(ways, endpoints(lab)[SERVER]))


def nowhere(where: Endpoint) -> Endpoint:
    return replace(where, known_hosts="/dev/null")


def test_keys_are_believed_on_first_use_only_when_asked_and_recorded_then(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "first-use"
    asked = [nowhere(where) for where in endpoints(lab).values()]
    with fleet(first_use=file) as strict:
        refused = surveys(strict, asked)
    assert not file.exists()
    with fleet(first_use=file, accept_new=True) as ssh:
        first = surveys(ssh, asked)
        accepted = ssh.accepted
    with fleet(first_use=file) as later:
        again = surveys(later, asked)
        assert later.accepted == ()

    assert all("--accept-new-host-keys" in unreachable(outcome) for outcome in refused.values())
    assert all(reached(outcome) for outcome in (*first.values(), *again.values()))
    assert {key.host for key in accepted} == {str(where.host) for where in asked}
    assert sorted(map(str, accepted_keys(file))) == sorted(map(str, accepted))
    assert file.stat().st_mode & 0o777 == 0o600
    assert all(KnownHosts.read([file]).about(where.address, where.port or 22).keys for where in asked)


def test_a_key_that_differs_from_the_one_believed_on_first_use_is_refused(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "first-use"
    where = nowhere(endpoints(lab)[SERVER])
    with fleet(first_use=file, accept_new=True) as ssh:
        assert reached(survey(ssh, where))
    lab.replace_host_key(SERVER)

    with fleet(first_use=file, accept_new=True) as ssh:
        said = unreachable(survey(ssh, where))
        assert ssh.accepted == ()

    assert said.startswith(f"host key of '{SERVER}' changed: found SHA256:")


def test_a_key_believed_on_first_use_does_not_count_where_known_hosts_holds_another(
    lab: Lab, tmp_path: Path
) -> None:
    first_use, known = tmp_path / "first-use", tmp_path / "known_hosts"
    where = endpoints(lab)[SERVER]
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text()
    known.write_text(f"[{where.address}]:{where.port} {other}")
    with fleet(first_use=first_use, accept_new=True) as ssh:
        before = unreachable(survey(ssh, replace(where, known_hosts=str(known))))
        assert reached(survey(ssh, nowhere(where)))

    with fleet(first_use=first_use, accept_new=True) as ssh:
        after = unreachable(survey(ssh, replace(where, known_hosts=str(known))))
        assert ssh.accepted == ()

    assert before.startswith(f"host key of '{SERVER}' changed: found SHA256:")
    assert f"({known}:1); that it was believed on first use ({first_use}:1) does not count" in after


@pytest.mark.parametrize(
    ("lines", "is_reached"),
    [
        ("{host} {key}", True),
        ("[{host}]:{port} {other}\n{host} {key}", False),
        ("{host} {other}", False),
        ("{host} {other}\n[{host}]:{port} {key}", True),
        ("@revoked {host} {key}\n{host} {key}", False),
        ("{host} 1024 65537 1234567890\nno line\n{host} ssh-new AAAA\nh\xe9 ssh-rsa *\n{host} {key}", True),
    ],
)
def test_known_hosts_say_of_a_host_on_another_port_what_they_say_to_ssh(
    lab: Lab, tmp_path: Path, ways: SshFleet, lines: str, *, is_reached: bool
) -> None:
    where = endpoints(lab)[SERVER]
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().strip()
    key = lab.known_hosts.read_text().split(" ", 1)[1].splitlines()[0]
    known = tmp_path / "known_hosts"
    text = lines.format(host=where.address, port=where.port, key=key, other=other)
    known.write_bytes(f"{text}\n".encode("latin-1"))
    options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "BatchMode=yes"]
    words = [word for option in options for word in ("-o", option)]
    command = ["ssh", *words, "-F", "none", "-i", str(lab.key_file), "-p", str(where.port), where.address]

    there = subprocess.run([*command, "true"], capture_output=True, timeout=60, check=False)
    outcome = survey(ways, replace(where, known_hosts=str(known)))

    assert (there.returncode == 0) is is_reached, there.stderr
    assert reached(outcome) if is_reached else unreachable(outcome)


def test_a_host_that_is_known_by_another_key_is_never_believed_on_first_use(lab: Lab, tmp_path: Path) -> None:
    where = endpoints(lab)[SERVER]
    lab.replace_host_key(SERVER)

    with fleet(first_use=tmp_path / "first-use", accept_new=True) as ssh:
        assert "changed: found" in unreachable(survey(ssh, where))
        assert ssh.accepted == ()


def test_a_host_of_which_an_authority_is_known_is_not_believed_on_first_use(
    lab: Lab, tmp_path: Path, authority: Path
) -> None:
    known = tmp_path / "known"
    known.write_text(f"@cert-authority * {Path(f'{authority}.pub').read_text()}")
    with fleet(first_use=tmp_path / "first-use", accept_new=True) as ssh:
        said = unreachable(survey(ssh, replace(endpoints(lab)[SERVER], known_hosts=str(known))))

    assert "but a @cert-authority" in said
    assert "shows no certificate" in said


def test_an_inventory_that_asks_to_believe_any_key_is_told_what_that_takes(
    lab: Lab, tmp_path: Path, ways: SshFleet
) -> None:
    asked = endpoints(lab, tmp_path, ansible_ssh_common_args="-o StrictHostKeyChecking=no")[SERVER]

    said = unreachable(survey(ways, nowhere(asked)))

    assert (
        "StrictHostKeyChecking says to believe it, which takes an option of keyrelay's own: --accept-new"
        in said
    )


def test_a_file_of_first_use_that_cannot_be_written_or_read_lets_nobody_in(lab: Lab, tmp_path: Path) -> None:
    where = nowhere(endpoints(lab)[SERVER])
    with fleet(first_use=tmp_path / "no-folder" / "file", accept_new=True) as ssh:
        assert f"the key of '{SERVER}' cannot be recorded: No such file" in unreachable(survey(ssh, where))
    (tmp_path / "damaged").write_text("rubbish\n")
    with fleet(first_use=tmp_path / "damaged") as ssh:
        assert "damaged:1: not a line of known_hosts" in unreachable(survey(ssh, where))
    with pytest.raises(InputError):
        accepted_keys(tmp_path / "damaged")
    with pytest.raises(ValueError, match="are written into a file"):
        fleet(accept_new=True)


def test_a_certificate_in_the_agent_logs_in(
    make_lab: MakeLab, lab_folder: Path, authority: Path, ways: SshFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: trusting(lab_folder)})
    certify(lab.key_file, authority, "-n", lab.user)
    with ssh_agent(lab_folder / "agent", lab.key_file) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        assert reached(survey(ways, without_key(endpoints(lab)[SERVER])))
