"""Playbook files over inventory files: what commands that plan, hand over and watch begin with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.inventory.model import Inventory
from orchestrator.inventory.yaml_files import load
from orchestrator.policy.desired import Desired
from orchestrator.policy.hooks import hook_variables, render_hook
from orchestrator.policy.playbook import Playbook, load_playbooks
from orchestrator.policy.scopes import cut, refuse_overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One play over the inventory.

    Attributes:
        file: the playbook file it stands in.
    """

    file: Path
    desired: Desired


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
    if playbook.hooks is None:
        return Play(file=file, desired=desired)
    template, place = playbook.hooks.activated, playbook.place("hooks", "activated")
    hooks = {
        server: render_hook(template, hook_variables(inventory, server), place=place)
        for server in desired.servers()
    }
    return Play(file=file, desired=replace(desired, hooks=hooks))
