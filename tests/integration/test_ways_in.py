"""Other ways to hosts than straight ahead: configuration, arguments for ssh, jump hosts, IPv6."""

import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from orchestrator.inventory.model import Endpoint
from orchestrator.inventory.ssh_options import parse_arguments
from orchestrator.lab import HostOptions, Lab
from orchestrator.remote.become import SOMETHING_ELSE
from orchestrator.remote.fleet import SshFleet
from tests.conftest import MakeLab
from tests.integration.ways import (
    endpoints,
    fleet,
    make_key,
    reached,
    survey,
    surveys,
    unreachable,
    why,
)

SERVER, NEAR, FAR = "server-01", "agent-001", "agent-002"
CHAIN = {
    "jump-02": HostOptions(behind="jump-01"),
    NEAR: HostOptions(behind="jump-01"),
    FAR: HostOptions(behind="jump-02"),
}


@pytest.fixture
def chain(make_lab: MakeLab, networks: None) -> Lab:
    """One agent behind a jump host, another behind a second jump host that is behind the first."""
    del networks
    return make_lab(servers=1, agents=2, jump_hosts=2, options=CHAIN)


@pytest.fixture
def ways() -> Iterator[SshFleet]:
    with fleet() as ssh:
        yield ssh


def with_arguments(where: Endpoint, text: str) -> Endpoint:
    options, _ = parse_arguments(text)
    return replace(where, port=where.port or options.port, ssh=options)


def write_config(home: Path, text: str) -> None:
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    (home / ".ssh" / "config").write_text(text)
    (home / ".ssh" / "config").chmod(0o600)


def bare(lab: Lab, name: str) -> Endpoint:
    """A host of which the inventory says nothing but its name."""
    found = endpoints(lab)[name]
    return Endpoint(host=found.host, address=name, base=found.base)


def test_a_host_is_reached_by_the_users_ssh_config_alone(lab: Lab, home: Path, ways: SshFleet) -> None:
    write_config(home, lab.ssh_config.read_text())

    assert reached(survey(ways, bare(lab, SERVER)))


def test_the_inventory_wins_over_the_ssh_config(lab: Lab, home: Path, ways: SshFleet) -> None:
    wrong = "Host *\n User nobody\n Port 9\n IdentityFile ~/none\n UserKnownHostsFile /dev/null\n"
    write_config(home, wrong)

    assert reached(survey(ways, endpoints(lab)[SERVER]))


def test_a_host_key_alias_names_the_line_of_known_hosts(
    lab: Lab, home: Path, tmp_path: Path, ways: SshFleet
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"the-alias {lab.known_hosts.read_text().split(' ', 1)[1]}")
    write_config(
        home, f"Host {lab.host(SERVER).address}\n HostKeyAlias the-alias\n UserKnownHostsFile {known}\n"
    )

    assert reached(survey(ways, replace(endpoints(lab)[SERVER], known_hosts=None)))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("Match exec true\n Port 9\n", "/.ssh/config:1: Match exec would run a command to decide how"),
        (
            "Host *\n ProxyCommand nc %h %p\n",
            "ProxyCommand 'nc %h %p' would run a program, and keyrelay runs none",
        ),
        ("Host *\n IdentityFile ${NO_SUCH}\n", "names the environment variable NO_SUCH, which is not set"),
        ("Host *\n ProxyJump self\nHost self\n ProxyJump self\n", "the jump hosts lead in a circle"),
        ("Host *\n IdentityFile ~/%Z\n", "has the token %Z, which is not known here"),
    ],
)
def test_a_configuration_that_cannot_be_followed_makes_its_hosts_unreachable(
    lab: Lab, home: Path, ways: SshFleet, config: str, words: str
) -> None:
    write_config(home, config)

    assert words in unreachable(survey(ways, endpoints(lab)[SERVER]))


@pytest.mark.parametrize(
    "arguments",
    [
        "-C -o ControlMaster=auto -o ControlPersist=60s -o IdentitiesOnly=yes",
        "-o StrictHostKeyChecking=no -q",
    ],
)
def test_arguments_that_change_nothing_change_nothing(
    lab: Lab, tmp_path: Path, ways: SshFleet, arguments: str
) -> None:
    where = endpoints(lab, tmp_path, ansible_ssh_common_args=arguments)[SERVER]

    assert reached(survey(ways, where))


def test_another_configuration_is_named_by_an_argument(lab: Lab, tmp_path: Path, ways: SshFleet) -> None:
    where = endpoints(lab, tmp_path, ansible_ssh_extra_args=f"-F {lab.ssh_config}")[SERVER]

    assert reached(survey(ways, replace(where, address=SERVER, port=None, key_file=None, known_hosts=None)))


def test_hosts_behind_jump_hosts_and_chains_of_them_are_reached(chain: Lab, ways: SshFleet) -> None:
    outcomes = surveys(ways, list(endpoints(chain).values()))

    assert all(reached(outcome) for outcome in outcomes.values())
    assert len(outcomes) == 3


def test_jump_hosts_may_stand_in_the_ssh_config(chain: Lab, home: Path, ways: SshFleet) -> None:
    write_config(home, chain.ssh_config.read_text())

    outcomes = surveys(ways, [bare(chain, name) for name in (SERVER, NEAR, FAR)])

    assert all(reached(outcome) for outcome in outcomes.values())


def test_a_command_that_is_a_jump_host_in_other_words_is_one(chain: Lab, ways: SshFleet) -> None:
    jump = chain.jump_hosts[0]
    command = f"ssh -W %h:%p -q -i {chain.key_file} -p {jump.port} {jump.user}@{jump.address}"
    where = replace(endpoints(chain)[NEAR], ssh=parse_arguments(f"-o ProxyCommand='{command}'")[0])

    assert reached(survey(ways, where))


def test_a_jump_host_is_logged_in_to_once_for_all_hosts_behind_it(make_lab: MakeLab, networks: None) -> None:
    del networks
    names = [f"agent-{number:03}" for number in range(1, 13)]
    lab = make_lab(
        servers=0, agents=12, jump_hosts=1, options={name: HostOptions(behind="jump-01") for name in names}
    )
    with fleet() as ssh:
        for _ in range(2):
            assert all(reached(one) for one in surveys(ssh, list(endpoints(lab).values())).values())

    log = lab.jump_hosts[0].log.read_text()
    assert log.count("Accepted publickey") == 1


def test_a_jump_host_that_is_gone_is_named_and_the_others_are_reached(chain: Lab, ways: SshFleet) -> None:
    chain.stop("jump-01")
    jump = chain.jump_hosts[0]

    outcomes = surveys(ways, list(endpoints(chain).values()))

    refused = f"jump host '{jump.address}' ({jump.address}:{jump.port}): connection refused on"
    assert refused in unreachable(outcomes[NEAR])
    assert unreachable(outcomes[FAR]).startswith(refused)
    assert reached(outcomes[SERVER])
    chain.start("jump-01")
    assert reached(survey(ways, endpoints(chain)[FAR]))


def test_a_host_that_its_jump_host_cannot_reach_is_told_so(chain: Lab, ways: SshFleet) -> None:
    chain.stop(NEAR)
    host = chain.host(NEAR)

    said = unreachable(survey(ways, endpoints(chain)[NEAR]))

    assert f"cannot connect to {host.address} port {host.port}, and says 'Connection refused'" in said
    assert f"on the way to {host.address}:{host.port}" in said


def test_a_jump_host_that_does_not_forward_is_told_so(make_lab: MakeLab, ways: SshFleet) -> None:
    lab = make_lab(servers=2, agents=0)
    other = lab.host("server-02")
    where = with_arguments(endpoints(lab)[SERVER], f"-J {other.user}@{other.address}:{other.port}")

    said = unreachable(survey(ways, where))

    assert (
        f"jump host '{other.address}' does not forward connections (AllowTcpForwarding, PermitOpen or" in said
    )


def test_each_hop_has_its_own_host_key_and_its_own_key_to_log_in_with(
    chain: Lab, ways: SshFleet, tmp_path: Path
) -> None:
    jump = chain.jump_hosts[0]
    line = next(
        line for line in chain.known_hosts.read_text().splitlines() if line.startswith(f"[{jump.address}]")
    )
    known = tmp_path / "known_hosts"
    known.write_text(chain.known_hosts.read_text().replace(f"{line}\n", ""))
    unknown = replace(endpoints(chain)[NEAR], known_hosts=str(known))
    key = make_key(tmp_path / "key")
    command = f"ssh -W %h:%p -i {key} -p {jump.port} {jump.user}@{jump.address}"
    no_key = replace(endpoints(chain)[NEAR], ssh=parse_arguments(f"-o ProxyCommand='{command}'")[0])

    assert f"({jump.address}:{jump.port}): host key of '{jump.address}' is unknown" in unreachable(
        survey(ways, unknown)
    )
    assert f"key not accepted for '{jump.user}': tried login key {key};" in unreachable(survey(ways, no_key))


def test_a_frozen_jump_host_holds_nobody_past_the_deadline(chain: Lab) -> None:
    started = monotonic()
    with fleet(deadline_s=4) as ssh:
        assert reached(survey(ssh, endpoints(chain)[FAR]))
        chain.freeze("jump-01")
        outcomes = surveys(ssh, list(endpoints(chain).values()))
        chain.thaw("jump-01")

        assert reached(outcomes[SERVER])
        assert why(outcomes[NEAR])
        assert why(outcomes[FAR])
    assert monotonic() - started < 30


def test_a_jump_host_that_restarts_between_visits_is_logged_in_to_again(chain: Lab, ways: SshFleet) -> None:
    where = endpoints(chain)[FAR]
    assert reached(survey(ways, where))
    chain.stop("jump-01")
    chain.start("jump-01")

    assert reached(survey(ways, where))


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("form", ["::1", "[::1]", "0:0:0:0:0:0:0:1"])
def test_a_host_is_reached_by_ipv6(make_lab: MakeLab, tmp_path: Path, ways: SshFleet, form: str) -> None:
    lab = make_lab(servers=1, agents=1, options={NEAR: HostOptions(ipv6=True)})
    known = tmp_path / "known_hosts"
    known.write_text(lab.known_hosts.read_text().replace("[::1]", f"[{form.strip('[]')}]"))

    where = endpoints(lab, tmp_path, keyrelay_known_hosts=str(known))[NEAR]
    assert reached(survey(ways, replace(where, address=form.strip("[]"))))
    unknown = unreachable(survey(ways, replace(where, known_hosts="/dev/null")))
    assert f"nothing for [::1]:{where.port} in /dev/null" in unknown


def test_a_host_without_sftp_is_reached_for_none_is_used(make_lab: MakeLab, ways: SshFleet) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: HostOptions(config=("Subsystem sftp /bin/false",))})

    assert reached(survey(ways, endpoints(lab)[SERVER]))


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh"])
def test_a_host_is_reached_whatever_its_login_shell(make_lab: MakeLab, ways: SshFleet, shell: str) -> None:
    found = shutil.which(shell)
    assert found is not None, f"{shell} is missing: make setup installs it"
    lab = make_lab(servers=1, agents=0, options={SERVER: HostOptions(login_shell=found)})

    assert reached(survey(ways, endpoints(lab)[SERVER]))


@pytest.mark.parametrize(
    "options",
    [
        HostOptions(force_command="echo only backups here"),
        HostOptions(force_command="echo This account is currently not available.; exit 1"),
    ],
)
def test_a_key_that_is_restricted_to_a_command_is_told_so(
    make_lab: MakeLab, ways: SshFleet, options: HostOptions
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: options})

    said = why(survey(ways, endpoints(lab)[SERVER]))

    assert said.startswith("the host did not begin to answer; it printed: ")
    assert SOMETHING_ELSE in said


@pytest.mark.parametrize(
    ("forced", "words"),
    [
        ("/bin/false", r"the host did not begin to answer; {} \(status 1\)"),
        ("/bin/true", r"the host did not begin to answer; {} \(status 0\)"),
        (
            "/no/such/thing",
            r"the host did not begin to answer; {} \(status 127: .*(not found|No such file).*\)",
        ),
        ("/bin/cat", r"the host did not begin to answer; it printed: .*; {}.*"),
        ("yes", r"the answer is too long; {}"),
        (
            "sleep 1000",
            r"the visit's time ran out while its answer .* had said nothing for [1-4] s; {}",
        ),
    ],
)
def test_a_command_that_runs_instead_is_told_whatever_it_does(
    make_lab: MakeLab, forced: str, words: str
) -> None:
    lab = make_lab(servers=1, agents=0, options={SERVER: HostOptions(force_command=forced)})
    with fleet(deadline_s=4 if "sleep" in forced else 60) as ssh:
        said = why(survey(ssh, endpoints(lab)[SERVER]))

    assert re.fullmatch(words.format(re.escape(SOMETHING_ELSE)), said), said


def test_a_key_whose_line_names_a_command_is_told_so(
    make_lab: MakeLab, lab_folder: Path, ways: SshFleet
) -> None:
    keys = lab_folder / "keys"
    lab = make_lab(servers=1, agents=0, options={SERVER: HostOptions(config=(f"AuthorizedKeysFile {keys}",))})
    keys.write_text(f'command="uptime -p" {lab.key_file.with_suffix(".pub").read_text()}')

    assert SOMETHING_ELSE in why(survey(ways, endpoints(lab)[SERVER]))


def test_many_threads_share_one_login_to_a_jump_host_that_is_slow(chain: Lab) -> None:
    jump = chain.jump_hosts[0]
    with fleet() as ssh, ThreadPoolExecutor(2) as pool:
        chain.freeze("jump-01")
        timer = threading.Timer(1.5, lambda: chain.thaw("jump-01"))
        timer.start()
        outcomes = list(pool.map(lambda name: survey(ssh, endpoints(chain)[name]), (NEAR, FAR)))
        timer.join()

    assert all(reached(outcome) for outcome in outcomes)
    assert jump.log.read_text().count("Accepted publickey") == 1
