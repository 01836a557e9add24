"""Playbook files over inventory files: what commands that plan, hand over and watch begin with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.inventory.model import HostName, Inventory
from orchestrator.inventory.yaml_files import load
from orchestrator.policy.desired import Desired
from orchestrator.policy.hooks import hook_variables, render_hook
from orchestrator.policy.playbook import Playbook, load_playbooks
from orchestrator.policy.scopes import cut, refuse_overlap
from orchestrator.rotation.visits import Hook


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One play over the inventory.

    Attributes:
        file: the playbook file it stands in.
        hooks: what each server runs after a switch.
    """

    file: Path
    desired: Desired
    hooks: Mapping[HostName, Hook]


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


def _play(file: Path, playbook: Playbook, inventory: Inventory) -> Play:
    desired = cut(playbook, inventory, digest=playbook.digest)
    hooks: dict[HostName, Hook] = {}
    if playbook.hooks is not None:
        place = playbook.place("hooks", "activated")
        for server in desired.servers():
            variables = hook_variables(inventory, server)
            hooks[server] = Hook(command=render_hook(playbook.hooks.activated, variables, place=place))
    return Play(file=file, desired=desired, hooks=hooks)
