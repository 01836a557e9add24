"""Ansible's own reading of inventories, one JSON case a line on stdin, one JSON answer a line on stdout.

Run as a program, so that no test imports Ansible. It takes the way of ``ansible-inventory --list`` and
``--graph``: InventoryManager, then VariableManager with ``stage='all'``.
"""

# mypy: disable-error-code="import-untyped"

import json
import sys
from typing import Any

from ansible import constants
from ansible.inventory.helpers import sort_groups
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager


def answer(case: dict[str, Any]) -> dict[str, Any]:
    loader = DataLoader()
    manager = InventoryManager(loader, case["sources"])
    variables = VariableManager(loader, manager, version_info={})
    return {
        "parsed": list(manager._inventory.processed_sources),
        "hosts": {
            name: {
                "groups": [group.name for group in sort_groups(host.get_groups())],
                "variables": {
                    key: value
                    for key, value in variables.get_vars(
                        host=host, include_hostvars=False, stage="all"
                    ).items()
                    if key not in constants.INTERNAL_STATIC_VARS
                },
            }
            for name, host in manager.hosts.items()
        },
        "groups": {
            name: {
                "children": [child.name for child in group.child_groups],
                "hosts": [host.name for host in group.hosts],
                "members": [host.name for host in group.get_hosts()],
            }
            for name, group in manager.groups.items()
        },
        "selected": {
            pattern: [host.name for host in manager.get_hosts(pattern)]
            for pattern in case.get("patterns", [])
        },
    }


def main() -> None:
    init_plugin_loader()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line)), default=str) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
