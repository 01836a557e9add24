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
    """The lab as an Ansible YAML inventory: groups ``servers``, ``agents`` and one for each site.

    Jump hosts are not in it, for nothing is distributed to them; they stand in ``ansible_ssh_common_args``.
    """
    groups: dict[str, dict[str, Any]] = {"servers": {}, "agents": {}}
    for name in layout.names:
        role, site = layout.groups(name)
        groups[role][name] = {
            "ansible_host": layout.address(name),
            "keyrelay_base": str(bases[name]),
            **_way(layout, name),
            **layout.option(name).variables,
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


def _way(layout: Layout, name: str) -> dict[str, str]:
    """The account and the jump hosts of a host that differs in them."""
    way = {"ansible_user": layout.user_of(name)} if layout.user_of(name) != layout.user else {}
    if jumps := layout.jumps_to(name):
        hops = (f"{layout.user_of(jump)}@{layout.address(jump)}:{layout.port}" for jump in jumps)
        way["ansible_ssh_common_args"] = f"-J {','.join(hops)}"
    return way


def render_ssh_config(layout: Layout, key_file: Path, known_hosts: Path) -> str:
    """A configuration for OpenSSH's client in which the hosts go by their inventory names."""
    hosts = ""
    for name in layout.everyone:
        hosts += f"Host {name}\n  HostName {layout.address(name)}\n"
        if layout.user_of(name) != layout.user:
            hosts += f"  User {layout.user_of(name)}\n"
        if behind := layout.option(name).behind:
            hosts += f"  ProxyJump {behind}\n"
    return (
        f"{hosts}Host *\n  Port {layout.port}\n  User {layout.user}\n"
        f'  IdentityFile "{key_file}"\n  IdentitiesOnly yes\n  BatchMode yes\n'
        f'  UserKnownHostsFile "{known_hosts}"\n  GlobalKnownHostsFile none\n'
        "  StrictHostKeyChecking yes\n  HostKeyAlgorithms ssh-ed25519\n"
    )
