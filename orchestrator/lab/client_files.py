"""The files by which clients find their way to the hosts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.lab.layout import Layout


def render_known_hosts(layout: Layout, keys: Mapping[str, Path]) -> str:
    """A known_hosts file (``sshd(8)``) from the hosts' public key files."""
    return "".join(
        f"[{layout.address(name)}]:{layout.port} {key.read_text(encoding='ascii').strip()}\n"
        for name, key in keys.items()
    )


def render_inventory(layout: Layout, bases: Mapping[str, Path], key_file: Path, known_hosts: Path) -> str:
    """The lab as an Ansible YAML inventory: groups ``servers``, ``agents`` and one for each site."""
    groups: dict[str, dict[str, Any]] = {"servers": {}, "agents": {}}
    for name in layout.names:
        role, site = layout.groups(name)
        groups[role][name] = {
            "ansible_host": layout.address(name),
            "keyrelay_base": str(bases[name]),
        }
        groups.setdefault(site, {})[name] = {}
    document = {
        "all": {
            "vars": {
                "ansible_user": layout.user,
                "ansible_port": layout.port,
                "ansible_ssh_private_key_file": str(key_file),
                "keyrelay_known_hosts": str(known_hosts),
            },
            "children": {group: {"hosts": members} for group, members in groups.items()},
        }
    }
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def render_ssh_config(layout: Layout, key_file: Path, known_hosts: Path) -> str:
    """A configuration for OpenSSH's client in which the hosts go by their inventory names."""
    hosts = "".join(f"Host {name}\n  HostName {layout.address(name)}\n" for name in layout.names)
    return (
        f"{hosts}Host *\n  Port {layout.port}\n  User {layout.user}\n"
        f'  IdentityFile "{key_file}"\n  IdentitiesOnly yes\n  BatchMode yes\n'
        f'  UserKnownHostsFile "{known_hosts}"\n  GlobalKnownHostsFile none\n'
        "  StrictHostKeyChecking yes\n  HostKeyAlgorithms ssh-ed25519\n"
    )
