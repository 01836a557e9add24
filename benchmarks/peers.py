"""The same three files on the same hosts by Ansible and by pyinfra, as their users would write it.

What both get for free, before the time is taken: the folder that the files go to, an inventory that names the
remote Python, no facts gathered. What both leave out: syncing to disk, reading the files back on the host,
a lock against a second controller, one rename for all three files, and a signature that proves the key.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.lab import Lab
from orchestrator.rotation.visits import Stage

FORKS = 64
MODES = {"key.pem": 0o600, "cert.pem": 0o644, "chain.pem": 0o644}
PYINFRA = Path(sys.prefix) / "peers" / "bin" / "pyinfra"
LEFT_OUT = (
    "Ansible and pyinfra write the same key, certificate and chain into a folder that is there already; they "
    "leave out fsync, reading back on the host, locking, the one rename for all three, and the proof."
)

_ANSIBLE_CONFIG = """\
[defaults]
forks = {forks}
gathering = explicit
interpreter_python = /usr/bin/python3
[ssh_connection]
pipelining = True
control_path_dir = {folder}/control
ssh_args = -F /dev/null -o ControlMaster=auto -o ControlPersist=60s -o KexAlgorithms=curve25519-sha256 \
-o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=none -o IdentitiesOnly=yes
"""
_PLAYBOOK = """\
- hosts: all
  tasks:
"""
_TASK = """\
    - ansible.builtin.copy:
        src: "{folder}/payload/{{{{ inventory_hostname }}}}/{name}"
        dest: "{{{{ keyrelay_base | dirname }}}}/ansible/{name}"
        mode: "{mode:04o}"
"""
_DEPLOY = """\
from pyinfra import host
from pyinfra.operations import files

for name, mode in {modes!r}.items():
    files.put(
        name=name, src=f"{{host.data.payload}}/{{name}}", dest=f"{{host.data.target}}/{{name}}", mode=mode,
        create_remote_dir=False,
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Ansible and pyinfra, set up for a lab.

    Attributes:
        lab: the hosts.
        folder: an empty folder for their settings and for what they copy.
    """

    lab: Lab
    folder: Path

    def set_up(self) -> None:
        """Writes settings, playbook, deploy and inventory, and makes the folders on the hosts."""
        (self.folder / "control").mkdir(parents=True)
        config = _ANSIBLE_CONFIG.format(forks=FORKS, folder=self.folder, known_hosts=self.lab.known_hosts)
        (self.folder / "ansible.cfg").write_text(config, encoding="utf-8")
        tasks = (_TASK.format(folder=self.folder, name=name, mode=mode) for name, mode in MODES.items())
        (self.folder / "copy.yml").write_text(_PLAYBOOK + "".join(tasks), encoding="utf-8")
        modes = {name: f"{mode:o}" for name, mode in MODES.items()}
        (self.folder / "deploy.py").write_text(_DEPLOY.format(modes=modes), encoding="utf-8")
        hosts = [
            (
                host.name,
                {
                    "ssh_hostname": host.address, "ssh_port": host.port, "ssh_user": host.user,
                    "ssh_key": str(self.lab.key_file), "ssh_known_hosts_file": str(self.lab.known_hosts),
                    "ssh_strict_host_key_checking": "yes", "ssh_allow_agent": False,
                    "ssh_look_for_keys": False, "payload": str(self.folder / "payload" / host.name),
                    "target": str(host.base.with_name("pyinfra")),
                },
            )
            for host in self.lab.hosts
        ]  # fmt: skip
        (self.folder / "inventory.py").write_text(f"hosts = {hosts!r}\n", encoding="utf-8")
        for host in self.lab.hosts:
            (self.folder / "payload" / host.name).mkdir(parents=True)
            for peer in ("ansible", "pyinfra"):
                host.base.with_name(peer).mkdir()

    def load(self, stages: Mapping[str, Stage]) -> None:
        """Lays out fresh files for each host, which no host has."""
        for host, stage in stages.items():
            if stage.private_key is None:
                raise TypeError("a key that is made on the host cannot be copied to it")
            payload = self.folder / "payload" / host
            (payload / "key.pem").write_bytes(stage.private_key.reveal())
            (payload / "cert.pem").write_text(stage.certificate_pem, encoding="ascii")
            (payload / "chain.pem").write_text(stage.chain_pem, encoding="ascii")

    def ansible(self) -> None:
        """``copy`` three times, with pipelining and one connection a host."""
        program = Path(sys.executable).with_name("ansible-playbook")
        self._run([program, "-i", self.lab.inventory_file, self.folder / "copy.yml"])

    def pyinfra(self) -> None:
        """``files.put`` three times."""
        self._run(
            [PYINFRA, "-y", "--parallel", FORKS, self.folder / "inventory.py", self.folder / "deploy.py"]
        )

    def hang_up(self) -> None:
        """Ends the connections that Ansible keeps open, so that the next round logs in anew."""
        for path in (self.folder / "control").iterdir():
            subprocess.run(
                ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "any"],
                check=False,
                stderr=subprocess.DEVNULL,
            )

    def check(self, peer: str) -> None:
        """Ends the benchmark if a host does not have what was copied."""
        for host in self.lab.hosts:
            for name, mode in MODES.items():
                copy = host.base.with_name(peer) / name
                wanted = (self.folder / "payload" / host.name / name).read_bytes()
                if copy.read_bytes() != wanted or copy.stat().st_mode & 0o777 != mode:
                    sys.exit(f"{peer} left {copy} as it was")

    def _run(self, command: Sequence[object]) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            env=os.environ
            | {
                "HOME": str(self.folder), "ANSIBLE_HOME": str(self.folder),
                "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "LC_ALL": "C.UTF-8",
            },
            cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{command[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
