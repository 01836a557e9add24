"""The playbooks for Ansible, run by ``ansible-playbook`` as an operator does, on real hosts, and watched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import MakeFleet
from tests.cli.terminal import Terminal, keys_in_use
from tests.witness import watching

INVENTORY = ("-i", "lab/inventory.yml")
APPLY = ("apply", "playbooks/shared.yml", *INVENTORY, "--yes")
SERVER = "server-01"
BIN = Path(sys.executable).parent
TIMEOUT_S = 900

REBUILD = """
- name: Wipe
  ansible.builtin.file: {path: "{{ base }}", state: absent}
- name: Install, with a new SSH host key
  ansible.builtin.command:
    argv: ["{{ python }}", -c, "{{ program }}"]
  register: installed
  changed_when: true
- name: Hear what its console says
  ansible.builtin.set_fact: {host_key: "{{ installed.stdout }}"}
"""
INSTALL = """
import pathlib, subprocess, orchestrator.lab as lab
lab.Lab(pathlib.Path("lab")).replace_host_key("server-01")
told = subprocess.check_output(["ssh-keygen", "-lf", "lab/control/server-01/host_key.pub"], text=True)
print(told.split()[1], end="")
"""
START = """
- name: Start
  ansible.builtin.copy: {content: up, dest: "{{ started }}", mode: "0600"}
"""


def run(keyrelay: Terminal, name: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the working folder, as ``init`` has laid it out there."""
    environment = {**os.environ, **keyrelay.environment, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment |= {"PWD": str(keyrelay.folder), "ANSIBLE_LOCALHOST_WARNING": "false"}
    return subprocess.run(
        [BIN / "ansible-playbook", *INVENTORY, f"playbooks/ansible/{name}.yml", "-e", json.dumps(variables)],
        cwd=keyrelay.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.long
def test_ansible_wipes_a_server_and_gives_it_its_key_back(make_fleet: MakeFleet, tmp_path: Path) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    keyrelay(*APPLY).ended(0)
    before = keys_in_use(lab.directory / "hosts")
    keyrelay.write("rebuild.yml", REBUILD)
    keyrelay.write("start.yml", START)
    own = {
        "rebuild": "rebuild.yml",
        "start": str(keyrelay.folder / "start.yml"),
        "started": str(keyrelay.folder / "started"),
        "base": str(lab.host(SERVER).base),
        "python": sys.executable,
        "program": INSTALL,
    }

    with watching(lab.directory, tmp_path / "report.json"):
        unnamed = run(keyrelay, "reinstall-server", playbook="playbooks/shared.yml", **own)
        assert (unnamed.returncode, "name the server" in unnamed.stdout) == (2, True), unnamed.stdout
        unknown = run(keyrelay, "reinstall-server", playbook="playbooks/shared.yml", server="nobody", **own)
        assert unknown.returncode == 2, unknown.stdout
        assert keys_in_use(lab.directory / "hosts") == before
        assert (lab.host(SERVER).base / "server").exists(), "nothing was wiped"
        done = run(keyrelay, "reinstall-server", playbook="playbooks/shared.yml", server=SERVER, **own)
        assert done.returncode == 0, done.stdout + done.stderr

    assert keys_in_use(lab.directory / "hosts") == before
    assert (lab.host(SERVER).base / "server" / "current").exists()
    assert (keyrelay.folder / "started").exists()


def test_ansible_restores_a_controller_and_a_server_that_went_with_it(
    make_fleet: MakeFleet, tmp_path: Path
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    keyrelay(*APPLY).ended(0)
    keyrelay.write("backup.passphrase", "a passphrase for backups\n")
    keyrelay("backup", "fleet.backup", "--backup-passphrase-file", "backup.passphrase").ended(0)
    before = keys_in_use(lab.directory / "hosts")
    shutil.rmtree(keyrelay.folder / ".keyrelay")
    its = {
        "backup": "fleet.backup",
        "backup_passphrase_file": "backup.passphrase",
        "playbook": "playbooks/shared.yml",
        "home": str(tmp_path / "another"),
    }

    with watching(lab.directory, tmp_path / "report.json"):
        done = run(keyrelay, "restore-controller", **its)
        assert done.returncode == 0, done.stdout + done.stderr
        again = run(keyrelay, "restore-controller", **its)
        assert again.returncode == 0, again.stdout + again.stderr
        shutil.rmtree(tmp_path / "another")
        shutil.rmtree(lab.host(SERVER).base)
        lab.replace_host_key(SERVER)
        public = lab.directory / "control" / SERVER / "host_key.pub"
        told = subprocess.check_output(["ssh-keygen", "-lf", public], text=True)
        refused = run(keyrelay, "restore-controller", **its)
        assert (refused.returncode, "not every host tells" in refused.stdout) == (2, True), refused.stdout
        done = run(keyrelay, "restore-controller", **its, host_keys={SERVER: told.split()[1]})
        assert done.returncode == 0, done.stdout + done.stderr
        done = run(keyrelay, "reinstall-server", **its, server=SERVER)
        assert done.returncode == 0, done.stdout + done.stderr

    assert keys_in_use(lab.directory / "hosts") == before
    assert (lab.host(SERVER).base / "server" / "current").exists()
