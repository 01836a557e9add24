"""Options that contradict each other, the lab or the machine."""

import os

import pytest

from orchestrator.errors import LabError, UsageError
from orchestrator.lab import machine
from orchestrator.lab.options import HostOptions, check_options

NAMES = ("server-01", "agent-001", "agent-002")
JUMPS = ("jump-01", "jump-02")


def check(options: dict[str, HostOptions], *, jumps: tuple[str, ...] = (), user: str = "") -> None:
    check_options(options, names=NAMES, jumps=jumps, user=user or machine.current_user())


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks nothing."""
    monkeypatch.setattr(machine, "lacks_ipv6", lambda: "")
    monkeypatch.setattr(machine, "lacks_networks", lambda: "")
    monkeypatch.setattr(machine, "find", lambda program: f"/bin/{program}")


@pytest.mark.usefixtures("able")
def test_options_that_fit_are_taken() -> None:
    check(
        {
            "jump-02": HostOptions(behind="jump-01"),
            "agent-001": HostOptions(behind="jump-02", busybox=True),
            "agent-002": HostOptions(ipv6=True, user=machine.current_user()),
        },
        jumps=JUMPS,
    )


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"agent-009": HostOptions()}, "does not have: agent-009"),
        ({"agent-001": HostOptions(behind="server-01")}, "agent-001 cannot be behind 'server-01'"),
        ({"jump-01": HostOptions(behind="jump-01")}, "jump-01 cannot be behind 'jump-01'"),
        ({"jump-01": HostOptions(behind="jump-02")}, "jump-01 cannot be behind 'jump-02'"),
        ({"agent-001": HostOptions(ipv6=True), "agent-002": HostOptions(ipv6=True)}, "one host alone"),
        ({"agent-001": HostOptions(busybox=True, login_shell="/bin/dash")}, "busybox alone"),
        ({"agent-001": HostOptions(busybox=True, environment={"PATH": "/bin"})}, "busybox alone"),
    ],
)
def test_options_that_contradict_the_lab_or_each_other_are_refused(
    options: dict[str, HostOptions], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        check(options, jumps=JUMPS)


def test_a_machine_without_ipv6_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "lacks_ipv6", lambda: "no IPv6 here")
    with pytest.raises(LabError, match="agent-001: no IPv6 here"):
        check({"agent-001": HostOptions(ipv6=True)})


def test_a_machine_without_networks_of_its_own_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "lacks_networks", lambda: "only root can")
    with pytest.raises(LabError, match="jump hosts cannot be had here: only root can"):
        check({}, jumps=JUMPS)


def test_a_machine_without_busybox_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SBIN", "")
    monkeypatch.setattr(os, "defpath", "/nowhere")
    with pytest.raises(LabError, match="busybox is not installed") as error:
        check({"agent-001": HostOptions(busybox=True)})
    assert error.value.hint == "apt-get install busybox"


def test_only_root_has_hosts_that_let_other_accounts_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(machine, "current_user", lambda: "someone")
    with pytest.raises(UsageError, match="agent-001: only a lab of root"):
        check({"agent-001": HostOptions(user="daemon")})


def test_an_account_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match="agent-001: there is no user 'nobody-at-all'"):
        check({"agent-001": HostOptions(user="nobody-at-all")})


def test_jump_hosts_are_for_the_user_who_starts_the_lab() -> None:
    with pytest.raises(UsageError, match="only the user who starts a lab"):
        check({}, jumps=JUMPS, user="daemon")


def test_an_ordinary_user_is_told_that_networks_take_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert machine.lacks_networks() == "only root can give hosts a network of their own"
