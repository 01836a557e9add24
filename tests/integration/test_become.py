"""Becoming root on real hosts by sudo and doas, and each way in which that fails."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.inventory.endpoints import Become, BecomeMethod
from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret
from orchestrator.lab import HostOptions, Lab
from orchestrator.remote.become import SOMETHING_ELSE
from orchestrator.rotation.reports import Changed
from orchestrator.rotation.visits import Activate, CredentialId, Fence, Stage, Visit
from tests.conftest import DOAS_RULES, OURS, SUDO_PASSWORD, MakeLab
from tests.fleet_worlds import challenge, key
from tests.integration.ways import (
    Person,
    endpoints,
    fleet,
    found_there,
    survey,
    surveys,
    unreachable,
    user_there,
    why,
)

SERVER = "server-01"
RULED = "keyrelay-ops-ruled"
SHELLS = ("bash", "dash", "zsh", "fish", "tcsh", "csh")


def hosts(make_lab: MakeLab, user: str, *, servers: int = 1, **options: object) -> Lab:
    option = HostOptions(user=user, variables={"ansible_become": True}, **options)  # type: ignore[arg-type]
    names = [f"server-{number:02}" for number in range(1, servers + 1)]
    return make_lab(servers=servers, agents=0, sites=1, options=dict.fromkeys(names, option))


def question(user: str) -> str:
    return f"Password of {user}, for sudo"


@pytest.fixture
def ruled() -> Iterator[Callable[..., str]]:
    """Gives a user rules for sudo; nobody else uses that user meanwhile."""
    if os.geteuid() != 0 or shutil.which("sudo") is None or shutil.which("useradd") is None:
        pytest.skip("only root can give rules for sudo")
    file = Path("/etc/sudoers.d") / RULED
    with (Path(tempfile.gettempdir()) / "keyrelay-sudo.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def give(*lines: str) -> str:
            hashed = subprocess.run(
                ["openssl", "passwd", "-6", "-stdin"],
                input=SUDO_PASSWORD,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            make = ["useradd", "--system", "--create-home", "--shell", "/bin/sh", "-p", hashed, RULED]
            subprocess.run(make, check=False, capture_output=True)
            fresh = file.with_suffix(".new")
            fresh.write_text(
                f"{OURS}Defaults:{RULED} timestamp_timeout=0\n" + "".join(f"{line}\n" for line in lines)
            )
            fresh.chmod(0o440)
            subprocess.run(["visudo", "-cqf", fresh], check=True)
            fresh.rename(file)
            return RULED

        yield give
        file.unlink(missing_ok=True)


def stage_and_activate(where: Endpoint) -> Visit:
    pair = key()
    credential = CredentialId("c" * 32)
    stage = Stage(
        credential=credential,
        certificate_pem="a certificate\n",
        chain_pem="a chain\n",
        challenge=challenge(),
        algorithm=Algorithm.ED25519,
        private_key=pair.private,
    )
    activate = Activate(credential=credential, challenge=challenge(), algorithm=Algorithm.ED25519)
    return Visit(endpoint=where, orders=(stage, activate), fence=Fence(generation=1, counter=1))


def test_root_by_sudo_unasked_writes_what_the_user_may_not(make_lab: MakeLab, sudoer: str) -> None:
    lab = hosts(make_lab, sudoer)
    where = endpoints(lab)[SERVER]
    person = Person()
    with fleet(person) as ssh:
        assert user_there(survey(ssh, where)) == "root"
        (outcome,) = ssh.run([stage_and_activate(where)])

    assert isinstance(outcome, Changed), outcome
    assert Path(where.base).owner() == "root"
    assert person.asked == []


def test_a_user_who_may_not_write_is_told_what_it_takes(make_lab: MakeLab, sudoer: str) -> None:
    lab = hosts(make_lab, sudoer)
    where = replace(endpoints(lab)[SERVER], become=None, base="/etc/keyrelay-is-not-here")

    with fleet() as ssh:
        assert found_there(survey(ssh, where)).unwritable == "/etc/"
        assert found_there(survey(ssh, replace(where, base="/tmp/keyrelay-is-not-here"))).unwritable == ""
        assert found_there(survey(ssh, replace(where, base="/nowhere/keyrelay"))).unwritable == ""
        (outcome,) = ssh.run([stage_and_activate(where)])

    assert why(outcome).startswith(
        "cannot make /etc/keyrelay-is-not-here: Permission denied; set ansible_become: true to write as root"
    )


def test_the_password_for_sudo_is_asked_for_once_for_all_hosts(make_lab: MakeLab, asked_sudoer: str) -> None:
    lab = hosts(make_lab, asked_sudoer, servers=3)
    person = Person({question(asked_sudoer): SUDO_PASSWORD})
    with fleet(person) as ssh:
        for _ in range(2):
            outcomes = surveys(ssh, list(endpoints(lab).values()))
            assert {user_there(outcome) for outcome in outcomes.values()} == {"root"}
        (changed,) = ssh.run([stage_and_activate(endpoints(lab)[SERVER])])

    assert person.asked == [question(asked_sudoer)]
    assert isinstance(changed, Changed), changed


def test_a_password_from_the_inventory_is_used_and_nobody_is_asked(
    make_lab: MakeLab, asked_sudoer: str
) -> None:
    lab = hosts(make_lab, asked_sudoer)
    person = Person()
    with fleet(person, passwords={HostName(SERVER): Secret(SUDO_PASSWORD.encode())}) as ssh:
        assert user_there(survey(ssh, endpoints(lab)[SERVER])) == "root"
    assert person.asked == []


@pytest.mark.parametrize("shell", SHELLS)
def test_root_by_sudo_whatever_the_login_shell_and_though_it_prints(
    make_lab: MakeLab, asked_sudoer: str, shell: str
) -> None:
    found = shutil.which(shell)
    assert found is not None, f"{shell} is missing: make setup installs it"
    forced = f'echo Welcome to [keyrelay]; echo noise >&2; exec {found} -c "$SSH_ORIGINAL_COMMAND"'
    lab = hosts(make_lab, asked_sudoer, force_command=forced)
    with fleet(Person({question(asked_sudoer): SUDO_PASSWORD})) as ssh:
        assert user_there(survey(ssh, endpoints(lab)[SERVER])) == "root"


def test_the_password_is_in_no_command_line_environment_or_log(
    make_lab: MakeLab, asked_sudoer: str, lab_folder: Path
) -> None:
    seen = lab_folder / "seen"
    spy = lab_folder / "spy.sh"
    spy.write_text(
        f"(for _ in 1 2 3 4 5 6 7 8 9; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; sleep 0.1; done) "
        f">{seen} 2>/dev/null </dev/null &\n"
        'exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    seen.touch()
    shutil.chown(seen, asked_sudoer)
    lab = hosts(make_lab, asked_sudoer, force_command=f"sh {spy}")
    where = endpoints(lab)[SERVER]
    with fleet(Person({question(asked_sudoer): SUDO_PASSWORD})) as ssh:
        assert user_there(survey(ssh, where)) == "root"

    assert b"sudo" in seen.read_bytes()
    assert SUDO_PASSWORD.encode() not in seen.read_bytes()
    assert SUDO_PASSWORD not in lab.host(SERVER).log.read_text()
    assert SUDO_PASSWORD not in repr(where)


def test_a_wrong_password_is_told_and_sent_once(make_lab: MakeLab, asked_sudoer: str) -> None:
    lab = hosts(make_lab, asked_sudoer)
    with fleet(Person({question(asked_sudoer): "wrong"})) as ssh:
        said = unreachable(survey(ssh, endpoints(lab)[SERVER]))

    assert said.startswith(f"sudo does not accept the password of '{asked_sudoer}', which is sent only once")


def test_without_anybody_to_ask_a_wanted_password_is_told_with_what_to_do(
    make_lab: MakeLab, asked_sudoer: str
) -> None:
    lab = hosts(make_lab, asked_sudoer)
    with fleet() as ssh:
        said = unreachable(survey(ssh, endpoints(lab)[SERVER]))

    assert said == (
        f"sudo wants the password of '{asked_sudoer}', and there is nobody to ask for it; run keyrelay on a "
        f"terminal, or add to sudoers: {asked_sudoer} ALL=(root) NOPASSWD: ALL"
    )


def test_a_user_who_is_not_in_sudoers_is_told_so(make_lab: MakeLab, ruled: Callable[..., str]) -> None:
    lab = hosts(make_lab, ruled())
    with fleet(Person({question(RULED): SUDO_PASSWORD})) as ssh:
        said = unreachable(survey(ssh, endpoints(lab)[SERVER]))

    assert said.startswith(f"'{RULED}' may not use sudo on this host; add it to sudoers (it said: ")


def test_a_user_who_may_run_something_else_only_is_told_so(
    make_lab: MakeLab, ruled: Callable[..., str]
) -> None:
    lab = hosts(make_lab, ruled(f"{RULED} ALL=(root) NOPASSWD: /bin/true"))
    with fleet(Person({question(RULED): SUDO_PASSWORD})) as ssh:
        said = unreachable(survey(ssh, endpoints(lab)[SERVER]))

    assert said.startswith(f"sudo does not let '{RULED}' run sh as 'root'; add to sudoers: ")


def test_a_sudo_that_wants_a_terminal_is_told_so(make_lab: MakeLab, ruled: Callable[..., str]) -> None:
    lab = hosts(make_lab, ruled(f"Defaults:{RULED} requiretty", f"{RULED} ALL=(ALL) NOPASSWD: ALL"))
    with fleet() as ssh:
        said = unreachable(survey(ssh, endpoints(lab)[SERVER]))

    assert said.startswith(
        f"sudo wants a terminal, and keyrelay uses none; add to sudoers: Defaults:{RULED} !requiretty"
    )


def test_a_lecture_before_the_question_does_no_harm(
    make_lab: MakeLab, ruled: Callable[..., str], lab_folder: Path
) -> None:
    lecture = lab_folder / "lecture"
    lecture.write_text("We trust you have received the usual [keyrelay] password: lecture.\n\nRespect.\n")
    always = f"Defaults:{RULED} lecture=always, lecture_file={lecture}"
    lab = hosts(make_lab, ruled(always, f"{RULED} ALL=(ALL) ALL"))
    with fleet(Person({question(RULED): SUDO_PASSWORD})) as ssh:
        assert user_there(survey(ssh, endpoints(lab)[SERVER])) == "root"


def test_a_sudo_that_runs_programs_on_a_terminal_of_its_own_does_no_harm(
    make_lab: MakeLab, ruled: Callable[..., str]
) -> None:
    lab = hosts(make_lab, ruled(f"Defaults:{RULED} use_pty", f"{RULED} ALL=(ALL) ALL"))
    with fleet(Person({question(RULED): SUDO_PASSWORD})) as ssh:
        (changed,) = ssh.run([stage_and_activate(endpoints(lab)[SERVER])])

    assert isinstance(changed, Changed), changed


def test_a_host_without_sudo_or_doas_is_told_so(make_lab: MakeLab, sudoer: str, lab_folder: Path) -> None:
    programs = lab_folder / "programs"
    programs.mkdir()
    for name in ("sh", "env"):
        (programs / name).symlink_to(shutil.which(name) or "/missing")
    lab = hosts(make_lab, sudoer, environment={"PATH": str(programs)})
    where = endpoints(lab)[SERVER]
    with fleet() as ssh:
        for method in BecomeMethod:
            said = unreachable(survey(ssh, replace(where, become=Become(method=method))))
            assert said.startswith(
                f"{method} is not installed, or not in this login's PATH; ansible_become_method names another"
            )


def test_another_user_than_root_can_be_become(make_lab: MakeLab, sudoer: str, ordinary_user: str) -> None:
    lab = hosts(make_lab, sudoer)
    where = endpoints(lab)[SERVER]
    with fleet() as ssh:
        other = survey(ssh, replace(where, become=Become(user=ordinary_user)))
        same = survey(ssh, replace(where, become=Become(user=sudoer)))
        said = unreachable(survey(ssh, replace(where, become=Become(user="no-such-user"))))

    assert user_there(other) == ordinary_user
    assert user_there(same) == sudoer
    assert said.startswith("there is no user 'no-such-user' on the host")


def test_a_key_that_is_restricted_to_a_command_never_sees_a_password(
    make_lab: MakeLab, asked_sudoer: str
) -> None:
    lab = hosts(make_lab, asked_sudoer, force_command="echo backups only")
    with fleet(Person({question(asked_sudoer): SUDO_PASSWORD})) as ssh:
        said = unreachable(survey(ssh, endpoints(lab)[SERVER]))

    assert said == (
        f"sudo ended with status 0 before '{asked_sudoer}' became 'root'; it said: backups only; "
        f"perhaps {SOMETHING_ELSE}"
    )


def test_a_sudo_that_asks_for_something_else_ends_at_the_deadline(make_lab: MakeLab, sudoer: str) -> None:
    lab = hosts(make_lab, sudoer, force_command="printf 'Verification code: '; exec sleep 60")
    with fleet(deadline_s=3) as ssh:
        said = unreachable(survey(ssh, endpoints(lab)[SERVER]))

    assert re.fullmatch(
        f"sudo did not let '{sudoer}' become 'root' within [23] s; it said: Verification code:; perhaps .*",
        said,
    )


@contextmanager
def doas_rule(text: str) -> Iterator[None]:
    """Another rule than the fixture's, which removes it."""
    DOAS_RULES.write_text(DOAS_RULES.read_text().splitlines(keepends=True)[0] + text)
    yield


def test_root_by_doas(make_lab: MakeLab, doas_user: str) -> None:
    lab = hosts(make_lab, doas_user)
    where = replace(endpoints(lab)[SERVER], become=Become(method=BecomeMethod.DOAS))
    with fleet() as ssh:
        assert user_there(survey(ssh, where)) == "root"
        (changed,) = ssh.run([stage_and_activate(where)])

    assert isinstance(changed, Changed), changed


def test_a_doas_that_asks_or_refuses_is_told_with_its_rule(make_lab: MakeLab, doas_user: str) -> None:
    lab = hosts(make_lab, doas_user)
    where = replace(endpoints(lab)[SERVER], become=Become(method=BecomeMethod.DOAS))
    rule = f"add to doas.conf: permit nopass {doas_user} as root (it said: "
    with fleet() as ssh:
        with doas_rule(f"permit {doas_user}\n"):
            asks = unreachable(survey(ssh, where))
        with doas_rule("permit nopass nobody\n"):
            refuses = unreachable(survey(ssh, where))

    assert asks.startswith(f"doas wants a password, which it reads from terminals only; {rule}")
    assert refuses.startswith(f"doas does not let '{doas_user}' become 'root'; {rule}")
