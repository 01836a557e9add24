"""What an sshd_config of the lab says."""

from pathlib import Path

import pytest

from orchestrator.errors import LabError
from orchestrator.lab.options import HostOptions
from orchestrator.lab.paths import DaemonFiles, HostFiles
from orchestrator.lab.sshd import Sshd
from orchestrator.lab.sshd_config import Served, render


def served(folder: str, number: int, **options: object) -> Served:
    return Served(
        address=f"127.64.0.{number}", user="daemon", files=HostFiles(machine=Path(folder) / "host"),
        options=HostOptions(**options),  # type: ignore[arg-type]  # the test names HostOptions' own fields
    )  # fmt: skip


def config(
    *, version: tuple[int, int] = (9, 2), folder: str = "/lab", forwards: bool = False, **options: object
) -> list[str]:
    return render(
        DaemonFiles(control=Path(folder) / "control"), [served(folder, 1, **options)], port=2200,
        sshd=Sshd(program="/usr/sbin/sshd", version=version), max_startups=7, forwards=forwards,
        authorized_keys=Path(folder) / "authorized_keys",
    ).splitlines()  # fmt: skip


def test_a_hosts_own_lines_stand_first_since_sshd_takes_the_first_value() -> None:
    assert config(config=("MaxStartups 1",))[0] == "MaxStartups 1"


def test_a_setenv_line_of_a_hosts_own_would_hide_the_labs_and_is_refused() -> None:
    with pytest.raises(LabError, match="SetEnv"):
        config(config=("SetEnv PATH=/bin",))


def test_a_hosts_environment_is_joined_with_the_labs_on_the_one_line_that_sshd_reads() -> None:
    lines = [line for line in config(environment={"PATH": "/a b", "SHLVL": "0"}) if line.startswith("SetEnv")]
    assert lines == ['SetEnv "HOME=/lab/host/home" "SHLVL=0" "ZDOTDIR=/lab/host/home" "PATH=/a b"']


def test_a_login_shell_gets_the_clients_command_as_sshd_would_give_it() -> None:
    assert 'ForceCommand exec /usr/bin/fish -c "$SSH_ORIGINAL_COMMAND"' in config(login_shell="/usr/bin/fish")


@pytest.mark.parametrize(("version", "known"), [((9, 7), False), ((9, 8), True), ((10, 0), True)])
def test_penalties_for_sources_are_off_where_sshd_knows_them(version: tuple[int, int], known: bool) -> None:  # noqa: FBT001 - a parameter of the table above
    assert ("PerSourcePenalties no" in config(version=version)) is known


def test_busybox_alone_is_a_path_and_a_login_shell() -> None:
    lines = config(busybox=True)
    assert 'ForceCommand exec /lab/host/bin/sh -c "$SSH_ORIGINAL_COMMAND"' in lines
    assert any('"PATH=/lab/host/bin"' in line for line in lines)


def test_a_jump_host_forwards_and_other_hosts_do_not() -> None:
    assert "AllowTcpForwarding local" in config(forwards=True)
    assert "DisableForwarding yes" not in config(forwards=True)
    assert "DisableForwarding yes" in config()


def test_hosts_that_share_an_sshd_keep_what_is_their_own_in_a_block_for_their_address() -> None:
    text = render(
        DaemonFiles(control=Path("/lab/control")), [served("/a", 1), served("/b", 2, force_command="echo b")],
        sshd=Sshd(program="/usr/sbin/sshd", version=(9, 2)), port=2200, max_startups=7,
        authorized_keys=Path("/lab/authorized_keys"),
    )  # fmt: skip
    shared, first, second = text.split("Match LocalAddress ")
    assert "ListenAddress 127.64.0.1:2200\nListenAddress 127.64.0.2:2200\n" in shared
    assert "SetEnv" not in shared
    assert first.startswith("127.64.0.1\n")
    assert '"HOME=/a/host/home"' in first
    assert second.startswith("127.64.0.2\n")
    assert '"HOME=/b/host/home"' in second
    assert "ForceCommand echo b" in second


@pytest.mark.parametrize("folder", ['/a"b', "/a%h", "/a\nb", "/a\\b"])
def test_a_path_that_sshd_config_cannot_express_is_refused(folder: str) -> None:
    with pytest.raises(LabError, match="cannot express"):
        config(folder=folder)
