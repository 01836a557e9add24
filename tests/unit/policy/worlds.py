"""Inventories and playbooks for tests, made in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrator.errors import InputError, Place
from orchestrator.inventory.model import ALL, Group, GroupName, Host, HostName, Inventory, Written
from orchestrator.policy.playbook import Playbook, read_playbooks

GOOD = """\
- name: Test
  servers: servers
  agents: agents
  policy: per-server
  service: follows
"""
"""A playbook of five lines."""

Members = Mapping[str, Sequence[str]]


def inventory_of(groups: Members, variables: Mapping[str, Mapping[str, Any]] | None = None) -> Inventory:
    """An inventory of flat groups; a host's variable stands in line 9 of hosts.yml."""
    given = variables or {}
    names = dict.fromkeys(HostName(name) for members in groups.values() for name in members)
    mine: dict[HostName, list[GroupName]] = {name: [ALL] for name in names}
    for group, members in groups.items():
        for member in dict.fromkeys(members):
            mine[HostName(member)].append(GroupName(group))
    return Inventory(
        hosts={
            name: Host(
                name=name,
                groups=tuple(mine[name]),
                place=Place(file="hosts.yml", line=1),
                variables=given.get(name, {}),
                written={
                    key: Written(
                        value=value, place=Place(file="hosts.yml", line=9, column=2), text=str(value)
                    )
                    for key, value in given.get(name, {}).items()
                },
            )
            for name in names
        },
        groups={ALL: Group(name=ALL, place=Place(file="hosts.yml"), children=tuple(map(GroupName, groups)))}
        | {
            GroupName(group): Group(
                name=GroupName(group),
                place=Place(file="hosts.yml"),
                parents=(ALL,),
                hosts=tuple(map(HostName, members)),
            )
            for group, members in groups.items()
        },
    )


def playbook_of(**fields: Any) -> Playbook:
    """A playbook for the groups ``servers`` and ``agents``; ``fields`` add to it or replace."""
    basics = {
        "name": "Test",
        "servers": "servers",
        "agents": "agents",
        "policy": "shared",
        "service": "follows",
    }
    return Playbook.model_validate({**basics, **fields})


def read(text: str) -> tuple[Playbook, ...]:
    """The plays of a playbook that stands in p.yml."""
    return read_playbooks(text.encode(), file="p.yml")


def error_of(text: str) -> InputError:
    """Why a playbook is refused."""
    with pytest.raises(InputError) as refused:
        read(text)
    return refused.value
