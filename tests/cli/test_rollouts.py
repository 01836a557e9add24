"""Waves on real hosts: a canary that fails, a person's hand on it, agents that are not waited for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from orchestrator.rotation.lifecycle import STEPS, Step
from tests.cli.terminal import Done, Terminal, keys_in_use

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PER_SERVER = "playbooks/per-server.yml"
APPLY = ("apply", PER_SERVER, *INVENTORY, "--yes")
NEW_KEY = (*APPLY, "--new-key")
HOOK = 'hooks: {activated: "test ! -e {{ keyrelay_base }}/breaks || { echo no such unit; exit 1; }"}'

pytestmark = pytest.mark.usefixtures("inside")


def change(keyrelay: Terminal, old: str, new: str) -> None:
    path = keyrelay.folder / PER_SERVER
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> tuple[Terminal, Lab]:
    """Two servers with a key each, in two waves, and an agent; server-01 is the canary."""
    keyrelay, lab = make_fleet(servers=2, agents=1)
    change(keyrelay, "  service: follows", f"  {HOOK}")
    keyrelay(*APPLY).ended(0)
    return keyrelay, lab


def hosts_of(lab: Lab) -> Path:
    return lab.directory / "hosts"


def is_whole(keyrelay: Terminal, hosts: int = 3) -> None:
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    assert keyrelay("audit", *INVENTORY).ended(0).out == f"{hosts} hosts ok\n"


def newest(keyrelay: Terminal) -> Done:
    return keyrelay("rollout", "show").ended(0)


def test_a_canary_whose_hook_fails_pauses_the_rollout_until_it_is_resumed(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet
    before = keys_in_use(hosts_of(lab))
    breaks = lab.host("server-01").base / "breaks"
    breaks.touch()

    paused = keyrelay(*NEW_KEY).ended(3)
    paused.line("the rollout is paused: in wave 1, 1 of 1 went back: server-01")
    paused.line("not finished: keyrelay rollout resume goes on from here, keyrelay rollout revert goes back")
    assert keys_in_use(hosts_of(lab)) == before
    newest(keyrelay).line("paused: in wave 1, 1 of 1 went back")
    newest(keyrelay).line("server-01", "no such unit")
    keyrelay(*APPLY).ended(3).line("the rollout is paused")
    keyrelay("watch", "--once", PER_SERVER, *INVENTORY).ended(3).line("the rollout is paused")
    assert keys_in_use(hosts_of(lab)) == before

    breaks.unlink()
    keyrelay("rollout", "resume").ended(0).line("done: ")
    assert not keys_in_use(hosts_of(lab)) & before
    is_whole(keyrelay)
    keyrelay("rollout", "resume").ended(1).line("no rollout is under way")


@pytest.mark.parametrize("phase", ["publish", "activate", "soak"])
def test_a_rollout_is_taken_back_from_every_phase_before_retire(
    fleet: tuple[Terminal, Lab], phase: str
) -> None:
    keyrelay, lab = fleet
    before = keys_in_use(hosts_of(lab))
    if phase == "publish":
        lab.stop("agent-001")
    change(keyrelay, "soak: 0s", "soak: 1h")
    if phase == "soak":
        change(keyrelay, "waves: [1, 25%, 100%]", "waves: [100%]")
    keyrelay(*NEW_KEY, "--wait", "0s").ended(3)
    switched = {"publish": 0, "activate": 1, "soak": 2}[phase]
    assert len(keys_in_use(hosts_of(lab)) - before) == switched
    assert STEPS[Step(keyrelay.json("rollout", "show")["steps"]["server-02"])].phase == phase
    if phase == "publish":
        lab.start("agent-001")

    keyrelay("rollout", "revert").ended(0).line("done: ")

    assert keys_in_use(hosts_of(lab)) == before
    newest(keyrelay).line("ended")
    is_whole(keyrelay)


def test_once_an_old_key_is_put_away_a_rollout_only_goes_forward(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, lab = fleet
    change(keyrelay, "messages: {validity: 1s", "messages: {validity: 1h")
    keyrelay(*APPLY).ended(0)
    keyrelay(*NEW_KEY, "--wait", "0s").ended(3).line("server-01", "messages in flight")
    refused = keyrelay("rollout", "revert").ended(1)
    refused.line("cannot be taken back: server-01 has no old key within reach, the retirement has begun")
    refused.line("It can only go forward: keyrelay apply")
    assert len(keys_in_use(hosts_of(lab))) == 2


def test_a_paused_rollout_waits_for_its_person(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, lab = fleet
    lab.stop("agent-001")
    keyrelay(*NEW_KEY).ended(3)
    keyrelay("rollout", "pause", "--reason", "the weekend").ended(0).line("paused: the weekend")
    lab.start("agent-001")
    before = keys_in_use(hosts_of(lab))
    told = keyrelay("--json", *APPLY).ended(3).json["plays"][0]
    assert (told["result"], told["paused"], told["visits"]) == ("paused", "the weekend", 0)
    keyrelay("rollout", "pause").ended(1).line("paused already since", "the weekend")
    keyrelay("rollout", "resume").ended(0)
    assert not keys_in_use(hosts_of(lab)) & before


def test_an_agent_that_is_waived_keeps_nobody_and_catches_up(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    keyrelay(*APPLY).ended(0)
    before = keys_in_use(hosts_of(lab))
    lab.stop("agent-001")
    keyrelay(*NEW_KEY).ended(3).line("agent-001", "refused", "server-01, server-02")

    waived = keyrelay(*APPLY, "--waive", "agent-001").ended(3)
    assert "blocked by" not in waived.out
    waived.line("agent-001", "refused")
    assert not keys_in_use(hosts_of(lab)) & before
    newest(keyrelay).line(": ended, 2 servers")
    newest(keyrelay).line("agent-001", "it will not believe server-01, server-02 until it is reached again")
    keyrelay("prove", *INVENTORY).ended(3).line("server-01", "agent-001", "not asked")
    old = [key["thumbprint"] for key in keyrelay.json("cert", "list")["keys"] if key["state"] == "retired"]
    assert len(old) == 2
    keyrelay("holders", "--", old[0]).ended(0).line("agent-001", "public", "trusted for")

    lab.start("agent-001")
    keyrelay(*APPLY).ended(0).line("agent-001", "trusts")
    is_whole(keyrelay, hosts=4)
    assert "nobody holds it" in keyrelay("holders", "--", old[0]).ended(0).out
    keyrelay(*APPLY, "--waive", "agent-001").ended(2).line("nothing waits for an agent")
