"""Playbook files over inventory files: what commands that plan, hand over and watch begin with."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.inventory.endpoints import VariableError
from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.yaml_files import load
from orchestrator.keys.secret import Secret
from orchestrator.policy.desired import Desired
from orchestrator.policy.hooks import hook_variables, render_hook
from orchestrator.policy.playbook import Playbook, load_playbooks
from orchestrator.policy.scopes import cut, refuse_overlap


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
        InputError: a file is wrong.
        RefusedError: a server is in two plays.
    """
    inventory = load(inventories)
    plays = tuple(_play(file, one, inventory) for file in files for one in load_playbooks(file))
    refuse_overlap(play.desired for play in plays)
    return plays


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
    passwords = passwords_for(inventory, desired.endpoints)
    if playbook.hooks is None:
        return Play(file=file, desired=desired, passwords=passwords)
    template, place = playbook.hooks.activated, playbook.place("hooks", "activated")
    hooks = {
        server: render_hook(template, hook_variables(inventory, server), place=place)
        for server in desired.servers()
    }
    return Play(file=file, desired=replace(desired, hooks=hooks), passwords=passwords)
