"""Ansible's own reading of inventories, one JSON case a line on stdin, one JSON answer a line on stdout.

Run as a program, so that no test imports Ansible. It takes the way of ``ansible-inventory``: its own
functions make the listing and the graphs. The vault's password is ``pw``.
"""

# mypy: disable-error-code="import-untyped"

import json
import sys
from typing import Any

from ansible import context
from ansible.cli.inventory import InventoryCLI
from ansible.errors import AnsibleError
from ansible.inventory.helpers import sort_groups
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.plugins.loader import init_plugin_loader
from ansible.utils.context_objects import CLIArgs
from ansible.vars.manager import VariableManager

OPTIONS = {"export": False, "basedir": None, "yaml": False, "toml": False, "subset": None, "pattern": "all"}


def answer(case: dict[str, Any], loader: Any) -> dict[str, Any]:
    manager = InventoryManager(loader, case["sources"])
    command = InventoryCLI(["ansible-inventory"])
    command.loader, command.inventory = loader, manager
    command.vm = VariableManager(loader, manager, version_info={})
    context.CLIARGS = CLIArgs({**OPTIONS, "show_vars": False})
    listing = command.dump(command.json_inventory(manager.groups["all"]))
    graph = command.inventory_graph()
    context.CLIARGS = CLIArgs({**OPTIONS, "show_vars": True})
    return {
        "parsed": [source for source in manager._inventory.processed_sources if source],
        "listing": json.loads(listing),
        "graph": graph,
        "graph with variables": None if "__ansible_vault" in listing else command.inventory_graph(),
        "hosts": {
            name: [group.name for group in sort_groups(host.get_groups())]
            for name, host in manager.hosts.items()
        },
        "groups": {name: [host.name for host in group.get_hosts()] for name, group in manager.groups.items()},
        "selected": {pattern: selected(manager, pattern) for pattern in case["patterns"]},
    }


def selected(manager: Any, pattern: str) -> list[str] | str:
    try:
        return [host.name for host in manager.get_hosts(pattern)]
    except AnsibleError as error:
        return str(error)


def main() -> None:
    init_plugin_loader()
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(b"pw"))])
    for line in sys.stdin:
        try:
            found = answer(json.loads(line), loader)
        except AnsibleError as error:
            found = {"error": str(error)}
        sys.stdout.write(json.dumps(found, default=str) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
