"""Playbook files over inventory files: what commands that plan, hand over and watch begin with."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.inventory.endpoints import VariableError
from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.names import shown
from orchestrator.inventory.yaml_files import load
from orchestrator.keys.secret import Secret
from orchestrator.policy.desired import Desired
from orchestrator.policy.hooks import render_hook
from orchestrator.policy.install import On
from orchestrator.policy.playbook import HOOK, PROVE_COMMAND, TRUSTED_HOOK, Playbook, load_playbooks
from orchestrator.policy.sandbox import host_variables
from orchestrator.policy.scopes import cut, refuse_overlap
from orchestrator.policy.templates import render_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One play over the inventory.

    Attributes:
        file: the playbook file it stands in.
        passwords: for sudo, by host; as far as the inventory holds them.
    """

    file: Path
    desired: Desired
    passwords: Mapping[HostName, Secret]


def load_plays(files: Sequence[Path], inventories: Sequence[Path]) -> tuple[Play, ...]:
    """Every play of the files, in their order.

    Raises:
        InputError: a file is wrong, or two of them name a play alike.
        RefusedError: a server is in two plays.
    """
    inventory = load(inventories)
    found = [(file, one) for file in files for one in load_playbooks(file)]
    _refuse_same_names(found)
    plays = tuple(_play(file, one, inventory) for file, one in found)
    refuse_overlap(play.desired for play in plays)
    return plays


def _refuse_same_names(found: Iterable[tuple[Path, Playbook]]) -> None:
    first: dict[str, Path] = {}
    for file, play in found:
        if play.name in first:
            raise InputError(
                f"play {shown(play.name)} is in {first[play.name]} as well; allowed: one play of a "
                "name in one command",
                place=play.place("name"),
                hint="plays of one name are one play, with another policy: give the one that is to hold",
            )
        first[play.name] = file


def passwords_for(inventory: Inventory, hosts: Iterable[HostName]) -> dict[HostName, Secret]:
    """The passwords for sudo that the inventory holds for these hosts.

    One that is no text counts as none: ``inventory check`` names it, and it shall not stop the run.
    """
    found: dict[HostName, Secret] = {}
    for host in hosts:
        with suppress(VariableError):
            if (password := inventory.reading(host).become_password()) is not None:
                found[host] = Secret(password.encode())
    return found


def passwords_of(plays: Iterable[Play]) -> dict[HostName, Secret]:
    """The passwords of all plays."""
    return {host: password for play in plays for host, password in play.passwords.items()}


def _play(file: Path, playbook: Playbook, inventory: Inventory) -> Play:
    desired = cut(playbook, inventory, digest=playbook.digest)
    commands = _commands(playbook, inventory, desired)
    desired = replace(
        desired,
        hooks=commands.get(HOOK, {}),
        prove_commands=commands.get(PROVE_COMMAND, {}),
        trusted_hooks=commands.get(TRUSTED_HOOK, {}),
        stores=replace(desired.stores, texts=_texts(playbook, inventory, desired)),
    )
    return Play(file=file, desired=desired, passwords=passwords_for(inventory, desired.endpoints))


def _commands(
    playbook: Playbook, inventory: Inventory, desired: Desired
) -> Mapping[str, Mapping[HostName, str]]:
    """What each command becomes on its hosts, by what it is."""
    hosts = {HOOK: desired.servers(), PROVE_COMMAND: desired.servers(), TRUSTED_HOOK: desired.agents()}
    return {
        what: {
            host: render_hook(template, host_variables(inventory, host), place=place, what=what)
            for host in hosts[what]
        }
        for what, (template, place) in playbook.commands().items()
    }


def _texts(
    playbook: Playbook, inventory: Inventory, desired: Desired
) -> Mapping[HostName, Mapping[str, str]]:
    """What each template becomes on the hosts that are to have it, by the file there."""
    hosts = {On.SERVERS: desired.servers(), On.AGENTS: desired.agents(), On.ALL: tuple(desired.endpoints)}
    texts: dict[HostName, dict[str, str]] = {}
    for entry, number, template in playbook.templates():
        place = playbook.place("install", number, "template")
        for host in hosts[entry.hosts]:
            variables = host_variables(inventory, host)
            made = render_template(template, variables, name=shown(entry.template), place=place)
            texts.setdefault(host, {})[entry.file] = made
    return texts
