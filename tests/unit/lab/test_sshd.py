"""What a host's sshd_config says."""

from pathlib import Path

import pytest

from orchestrator.errors import LabError
from orchestrator.lab.layout import HostOptions
from orchestrator.lab.sshd import HostFiles, Sshd, render_config


def config(*, version: tuple[int, int] = (9, 2), folder: str = "/lab", **options: object) -> list[str]:
    files = HostFiles(control=Path(folder) / "control", machine=Path(folder) / "host")
    text = render_config(
        files, sshd=Sshd(program="/usr/sbin/sshd", version=version), address="127.64.0.1", port=2200,
        authorized_keys=Path(folder) / "authorized_keys", user="daemon", max_startups=7,
        options=HostOptions(**options),  # type: ignore[arg-type]  # the test names HostOptions' own fields
    )  # fmt: skip
    return text.splitlines()


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


@pytest.mark.parametrize("folder", ['/a"b', "/a%h", "/a\nb", "/a\\b"])
def test_a_path_that_sshd_config_cannot_express_is_refused(folder: str) -> None:
    with pytest.raises(LabError, match="cannot express"):
        config(folder=folder)
