"""A playbook over an inventory: which servers share a key, and which agents listen to which servers.

Pure, and linear in hosts and trust sets: what a pattern selects is worked out once, however many agents
have it, and agents that listen to the same servers share one trust set.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import assert_never

from orchestrator.errors import InputError, RefusedError, UsageError
from orchestrator.inventory.model import DEFAULT_PORT, Endpoint, HostName, Inventory, did_you_mean
from orchestrator.inventory.names import GroupName, shown
from orchestrator.inventory.patterns import select, select_servers_of
from orchestrator.inventory.ssh_options import SshOptions
from orchestrator.policy.desired import Desired, Origin, Policy, Scope, ScopeName, TrustSet
from orchestrator.policy.install import stores_of
from orchestrator.policy.playbook import Playbook
from orchestrator.policy.stores import paths

_NAMED_AT_MOST = 5


def cut(playbook: Playbook, inventory: Inventory, *, digest: str) -> Desired:
    """What ``playbook`` asks for on the hosts of ``inventory``.

    Args:
        playbook: whose patterns select servers and agents.
        inventory: where they are looked up.
        digest: SHA-256 (hex) of the playbook file's bytes.

    Raises:
        InputError: a pattern names what does not exist or selects nobody; a server is in none or in several
            of the groups of ``group_by``; an agent's ``keyrelay_servers`` selects no server of the playbook;
            ``origin: server`` for servers that would share a key; a variable that says how a host is
            reached is wrong; two hosts have the same address, port and base; ``install`` names a path in a
            base. Names the line that is to be changed.
    """
    servers = select_servers(playbook, inventory)
    scopes = cut_scopes(playbook, inventory, servers, playbook.policy)
    if playbook.key.origin is Origin.SERVER:
        _refuse_shared_server_keys(playbook, scopes)
    trust_sets = find_trust_sets(playbook, inventory, servers)
    names = dict.fromkeys((*servers, *(agent for found in trust_sets for agent in found.agents)))
    endpoints = {name: inventory.endpoint(name) for name in names}
    _refuse_one_machine_twice(inventory, endpoints)
    _refuse_stores_in_bases(playbook, endpoints)
    return Desired(
        playbook=playbook.playbook_name,
        digest=digest,
        policy=playbook.policy,
        key=playbook.key.spec(),
        certificate=playbook.certificate.spec(),
        messages=playbook.messages.spec(),
        rollout=playbook.rollout.spec(),
        prove_within=playbook.prove_within,
        scopes=scopes,
        trust_sets=trust_sets,
        endpoints=MappingProxyType(endpoints),
        issuer=playbook.issuer_spec(),
        stores=stores_of(playbook.install),
    )


def select_servers(playbook: Playbook, inventory: Inventory) -> tuple[HostName, ...]:
    """The servers of a playbook, in inventory order; at least one.

    Raises:
        InputError: the pattern names what does not exist or selects nobody.
    """
    return _select(playbook, inventory, "servers", playbook.servers)


def cut_scopes(
    playbook: Playbook, inventory: Inventory, servers: Sequence[HostName], policy: Policy
) -> tuple[Scope, ...]:
    """Cut ``servers`` as ``policy`` does; every one is in exactly one scope, and no scope is empty.

    Scopes come in the order of the groups in ``group_by``, else in inventory order.

    Raises:
        InputError: for ``per-group``: there is no ``group_by``, it names a group that does not exist, or a
            server is in none or in several of its groups.
    """
    match policy:
        case Policy.SHARED:
            return (Scope(name=ScopeName("all"), servers=tuple(servers)),)
        case Policy.PER_SERVER:
            return tuple(Scope(name=ScopeName(f"server:{name}"), servers=(name,)) for name in servers)
        case Policy.DELEGATED:
            return tuple(Scope(name=ScopeName(f"delegated:{name}"), servers=(name,)) for name in servers)
        case Policy.PER_GROUP:
            return _scopes_by_group(playbook, inventory, servers)
        case _:
            assert_never(policy)


def find_trust_sets(
    playbook: Playbook, inventory: Inventory, servers: Sequence[HostName]
) -> tuple[TrustSet, ...]:
    """The agents of a playbook by the servers they listen to; at least one trust set, none empty.

    An agent without ``keyrelay_servers`` listens to all ``servers``, any other to those of them that its
    pattern selects. Trust sets come in the order of their first agent.

    Raises:
        InputError: the pattern of agents names what does not exist or selects nobody, or an agent would
            listen to no server of this playbook.
    """
    everyone, known = tuple(servers), frozenset(servers)
    selected: dict[str, tuple[HostName, ...]] = {}
    listening: dict[tuple[HostName, ...], list[HostName]] = {}
    for agent in _select(playbook, inventory, "agents", playbook.agents):
        reading = inventory.reading(agent)
        pattern = reading.servers_pattern()
        if pattern is not None and pattern not in selected:
            found = select_servers_of(inventory, agent) or ()
            selected[pattern] = tuple(name for name in found if name in known)
        listens = everyone if pattern is None else selected[pattern]
        if not listens:
            raise reading.wrong(
                "keyrelay_servers",
                f"is {shown(pattern)}, which selects no server of the playbook {shown(playbook.name)}; "
                f"its servers are {_some(servers)}",
                hint=f"change the pattern, or leave the agent out: agents: {playbook.agents}:!{agent}",
            )
        listening.setdefault(listens, []).append(agent)
    return tuple(TrustSet(servers=listens, agents=tuple(agents)) for listens, agents in listening.items())


def refuse_overlap(playbooks: Iterable[Desired]) -> None:
    """A server signs with one key, so it belongs to one playbook; agents may belong to several.

    Raises:
        RefusedError: names a server that is in two.
    """
    owner: dict[HostName, Desired] = {}
    for desired in playbooks:
        for server in desired.servers():
            other = owner.setdefault(server, desired)
            if other is not desired:
                raise RefusedError(
                    f"server {server} is in two plays: {shown(other.playbook)} and {shown(desired.playbook)}",
                    hint="a server has one key; change the pattern of servers in one of them",
                )


def _select(playbook: Playbook, inventory: Inventory, field: str, pattern: str) -> tuple[HostName, ...]:
    try:
        found = select(inventory, pattern)
    except UsageError as error:
        raise InputError(
            f"{field} is no pattern of this inventory: {error.message}",
            place=playbook.place(field),
            hint=error.hint,
        ) from error
    if not found:
        raise InputError(
            f"{field} is {shown(pattern)}, which selects no host of the inventory; allowed: a pattern that "
            "selects at least one",
            place=playbook.place(field),
            hint="keyrelay inventory graph shows the groups and hosts there are",
        )
    return found


def _scopes_by_group(
    playbook: Playbook, inventory: Inventory, servers: Sequence[HostName]
) -> tuple[Scope, ...]:
    groups = tuple(GroupName(name) for name in playbook.group_by)
    place = playbook.place("group_by")
    if not groups:
        raise InputError(
            "group_by is missing; policy per-group cuts servers by the groups it names", place=place
        )
    for number, group in enumerate(groups):
        if group not in inventory.groups:
            raise InputError(
                f"group_by names {shown(group)}, and the inventory has no such group",
                place=playbook.place("group_by", number),
                hint=did_you_mean(group, inventory.groups),
            )
    members: dict[GroupName, list[HostName]] = {group: [] for group in groups}
    for server in servers:
        mine = [group for group in inventory.host(server).groups if group in members]
        if len(mine) != 1:
            found = f"in several groups of group_by: {', '.join(mine)}" if mine else "in no group of group_by"
            raise InputError(
                f"server {server} is {found}; allowed: exactly one of {', '.join(groups)}",
                place=place,
                hint="change the inventory's groups, group_by, or the pattern of servers",
            )
        members[mine[0]].append(server)
    return tuple(
        Scope(name=ScopeName(f"group:{group}"), servers=tuple(names))
        for group, names in members.items()
        if names
    )


def _refuse_shared_server_keys(playbook: Playbook, scopes: Sequence[Scope]) -> None:
    wide = next((scope for scope in scopes if len(scope.servers) > 1), None)
    if wide is not None:
        raise InputError(
            f"key.origin is server, but {_some(wide.servers)} share the key of scope {wide.name}; "
            "a key that never leaves its server cannot be shared",
            place=playbook.place("key", "origin"),
            hint="use policy per-server or delegated, or origin: controller",
        )


def _refuse_one_machine_twice(inventory: Inventory, endpoints: Mapping[HostName, Endpoint]) -> None:
    """Two names for one folder of one machine would undo each other's work."""
    first: dict[tuple[str | int | None, ...], HostName] = {}
    for name, endpoint in endpoints.items():
        ssh = endpoint.ssh or SshOptions()
        port = endpoint.port or ssh.port or DEFAULT_PORT
        # One address can be two machines, where one goes to it by other ways.
        route = (ssh.hostname, ssh.config_file, ssh.proxy_jump, ssh.proxy_command)
        other = first.setdefault((endpoint.address.lower(), port, endpoint.base, *route), name)
        if other != name:
            raise InputError(
                f"host {name} is at {endpoint.address}, port {port}, with keyrelay_base {endpoint.base}, "
                f"and so is host {other} ({inventory.host(other).place}); allowed: one name for each "
                "machine, or a keyrelay_base for each",
                place=inventory.host(name).place,
                hint="give one of them another ansible_host, ansible_port or keyrelay_base, or take it out",
            )


def _refuse_stores_in_bases(playbook: Playbook, endpoints: Mapping[HostName, Endpoint]) -> None:
    """What stands in keyrelay's own folder is keyrelay's own."""
    bases = {endpoint.base: name for name, endpoint in endpoints.items()} if playbook.install else {}
    for number, entry in enumerate(playbook.install):
        for path in paths(entry.spec()):
            for base, host in bases.items():
                if path == base or path.startswith(f"{base}/") or base.startswith(f"{path}/"):
                    raise InputError(
                        f"install[{number}] names {path}, and keyrelay_base of host {host} is {base}; "
                        "allowed: a path outside it",
                        place=playbook.place("install", number),
                        hint=f"what is in use stands in {base}/server/current anyway",
                    )


def _some(names: Sequence[HostName]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
