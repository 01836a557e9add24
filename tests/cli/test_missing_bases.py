"""A server's base out of sight, as where its disk is not mounted: its agents keep the key it signs with."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.lab import Lab
from tests.cli.conftest import MakeFleet
from tests.cli.terminal import Done, Terminal, keys_in_use, shorten

INVENTORY = ("-i", "lab/inventory.yml")
PER_SERVER = "playbooks/per-server.yml"
APPLY = ("apply", PER_SERVER, *INVENTORY, "--yes")
CANARY, OTHER = "server-01", "server-02"

pytestmark = pytest.mark.usefixtures("inside")


@contextmanager
def base_away(lab: Lab, server: str) -> Iterator[None]:
    """The base is not mounted; in the end it is again, over whatever was written in its place."""
    base = lab.host(server).base
    kept = base.with_name("unmounted")
    base.rename(kept)
    try:
        yield
        assert not list(base.glob("server/credentials/*")), "a key was made where the disk is not mounted"
    finally:
        shutil.rmtree(base, ignore_errors=True)
        kept.rename(base)


def names(server: str, done: Done) -> None:
    """The run goes on with all others, and says what this server misses and whose word it wants."""
    done.ended(3).line(server, "lost the key in use", f"keyrelay reinstall {server}")


def no_edge_broke(keyrelay: Terminal, *, hosts: int) -> None:
    """Before anything is mended, and after the next apply."""
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    keyrelay(*APPLY).ended(0)
    assert keyrelay("audit", *INVENTORY).ended(0).out == f"{hosts} hosts ok\n"


def key_of(keyrelay: Terminal, server: str) -> str:
    return str(keyrelay.json("holdings", server)["holdings"][0]["key"])


def test_while_a_base_is_away_nothing_new_is_made_for_its_server_whatever_is_done_about_others(
    make_fleet: MakeFleet,
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=3)
    keyrelay(*APPLY).ended(0)
    kept, leaked = key_of(keyrelay, CANARY), key_of(keyrelay, OTHER)

    with base_away(lab, CANARY):
        names(CANARY, keyrelay("watch", "--once", PER_SERVER, *INVENTORY))
        names(CANARY, keyrelay("remove", "agent-003", "--yes"))
        names(CANARY, keyrelay("compromise", "--reason", "found on a train", "--yes", "--", leaked))
        assert key_of(keyrelay, OTHER) != leaked
        keyrelay("prove", *INVENTORY).ended(4).line(CANARY, "does not exist, or cannot be entered")

    assert key_of(keyrelay, CANARY) == kept
    no_edge_broke(keyrelay, hosts=5)


@pytest.mark.parametrize("server", [CANARY, OTHER])
def test_a_base_that_goes_in_the_middle_of_a_rollout_costs_its_server_no_agent(
    make_fleet: MakeFleet, server: str
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    keyrelay(*APPLY).ended(0)
    before = keys_in_use(lab.directory / "hosts")
    playbook = keyrelay.folder / PER_SERVER
    playbook.write_text(playbook.read_text(encoding="utf-8").replace("soak: 0s", "soak: 3s"))
    keyrelay(*APPLY, "--new-key", "--wait", "0s").ended(3).line(OTHER, "the soak of the wave before")

    with base_away(lab, server):
        refused = keyrelay(*APPLY).ended(1)
        refused.line("error: ", server, "lost the key in use", "strands the 2 agents that trust it")
        names(server, keyrelay("watch", "--once", PER_SERVER, *INVENTORY))

    no_edge_broke(keyrelay, hosts=4)
    assert not keys_in_use(lab.directory / "hosts") & before


def test_a_base_that_is_away_while_the_policy_changes_costs_its_server_no_agent(
    make_fleet: MakeFleet,
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    delegated = keyrelay.folder / "playbooks" / "delegated.yml"
    shorten(delegated, lifetime="7d", renew_at="1/2")
    apply_delegated = ("apply", "playbooks/delegated.yml", *INVENTORY, "--yes")
    keyrelay(*apply_delegated).ended(0)

    with base_away(lab, CANARY):
        delegated.write_text(
            delegated.read_text(encoding="utf-8").replace("origin: server", "origin: controller")
        )
        keyrelay(*apply_delegated).ended(0)
        told = keyrelay(*APPLY).ended(3)
        told.line(CANARY, "is gone from it, and its service may still sign with it", f"reinstall {CANARY}")
        shutil.rmtree(lab.host(CANARY).base)

    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    keyrelay(*APPLY).ended(3).line(CANARY, "is gone from it", f"reinstall {CANARY}")
    keyrelay("reinstall", CANARY, *INVENTORY, "--yes").ended(0).line("is lost: server-01 was set up anew")
    no_edge_broke(keyrelay, hosts=4)
