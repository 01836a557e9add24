"""How hosts are reached, and what inventories hold, at the command line."""

import re
from pathlib import Path

from tests.cli.conftest import MakeFleet
from tests.cli.terminal import Terminal

SHARED = ("playbooks/shared.yml", "-i", "lab/inventory.yml")


def test_a_host_key_is_believed_on_first_use_only_when_that_is_said(make_fleet: MakeFleet) -> None:
    terminal, lab = make_fleet(servers=1, agents=1)
    known_hosts = Path(lab.known_hosts)
    known_hosts.write_text("", encoding="utf-8")
    refused = terminal("plan", *SHARED).ended(3)
    assert "--accept-new-host-keys" in refused.out
    assert "it has no key yet, as far as is known: it could not be asked" in refused.out
    believed = terminal("--accept-new-host-keys", "apply", *SHARED, "--yes").ended(0)
    assert re.search(r"believed on first use: agent-001 .* SHA256:", believed.err)
    audited = terminal("audit", "-i", "lab/inventory.yml").ended(0)
    assert "host key believed on first use" in audited.out
    lab.replace_host_key("agent-001")
    changed = terminal("audit", "-i", "lab/inventory.yml").ended(3)
    assert "changed" in changed.out


def test_what_was_left_out_of_an_inventory_is_told(terminal: Terminal) -> None:
    terminal.write("hosts.yml", "servers: {hosts: {web1: {ansible_host: 127.0.0.1}}}\n")
    (terminal.folder / "group_vars").mkdir()
    vaulted = "$ANSIBLE_VAULT;1.1;AES256\n61616161\n"
    (terminal.folder / "group_vars" / "servers.yml").write_text(vaulted, encoding="utf-8")
    told = terminal("inventory", "check", "-i", "hosts.yml").ended(0)
    assert "group_vars/servers.yml" in told.out


def test_a_graph_begins_where_it_is_told_to(terminal: Terminal) -> None:
    terminal.write("hosts.yml", "servers: {hosts: {web1: }, vars: {colour: red}}\nagents: {hosts: {a1: }}\n")
    told = terminal("inventory", "graph", "servers", "--vars", "-i", "hosts.yml").ended(0)
    assert "web1" in told.out
    assert "colour = red" in told.out
    assert "a1" not in told.out
    assert "no group 'clients'" in terminal("inventory", "graph", "clients", "-i", "hosts.yml").ended(2).err
