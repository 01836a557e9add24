"""Keys that leaked and hosts that leave, on real hosts."""

from collections.abc import Callable

import pytest

from orchestrator.lab import Lab
from orchestrator.lab.processes import wait_until
from tests.cli.terminal import Terminal, keys_in_use

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
LEAK = ("--reason", "found on a train", "--yes")


@pytest.fixture
def fleet(make_fleet: MakeFleet, inside: Terminal) -> tuple[Terminal, Lab]:
    """Two servers with a key each, and two agents."""
    del inside
    keyrelay, lab = make_fleet(servers=2, agents=2)
    keyrelay("apply", "playbooks/per-server.yml", *INVENTORY, "--yes").ended(0)
    return keyrelay, lab


def key_of(keyrelay: Terminal, server: str) -> str:
    return str(keyrelay.json("holdings", server)["holdings"][0]["key"])


def test_a_leaked_key_goes_although_an_agent_is_down_and_the_broken_edges_are_listed(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = fleet
    leaked, other = key_of(keyrelay, "server-01"), key_of(keyrelay, "server-02")
    lab.stop("agent-001")

    ended = keyrelay("compromise", *LEAK, "--json", "--", leaked).ended(3).json

    assert (ended["thumbprint"], ended["state"], ended["complete"]) == (leaked, "compromised", False)
    assert ended["broken"] == [{"server": "server-01", "agent": "agent-001"}]
    assert [block["host"] for block in ended["blocks"]] == ["agent-001"]
    assert key_of(keyrelay, "server-01") != leaked
    assert key_of(keyrelay, "server-02") == other
    held = {(one["host"], one["half"]) for one in keyrelay.json("holders", "--", leaked)["holders"]}
    assert held == {("agent-001", "public")}

    lab.start("agent-001")
    keyrelay("apply", "playbooks/per-server.yml", *INVENTORY, "--yes").ended(0).line("agent-001", "trusts")
    assert "nobody holds it" in keyrelay("holders", "--", leaked).ended(0).out
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    again = keyrelay("compromise", *LEAK, "--", leaked).ended(0)
    again.line("is removed: nobody holds it; compromised since", LEAK[1])
    keyrelay("compromise", "--reason", "  ", "--yes", "--", leaked).ended(2).line("it is empty")


@pytest.mark.long
def test_a_key_that_has_ended_in_another_playbook_holds_up_neither_a_handover_nor_a_leak(
    make_fleet: MakeFleet, inside: Terminal
) -> None:
    del inside
    keyrelay, _ = make_fleet(servers=2, agents=2)
    playbook = (keyrelay.folder / "playbooks" / "per-server.yml").read_text()
    for name, server in (("first", "server-01"), ("second", "server-02")):
        text = playbook.replace("name: Server-to-agent authentication", f"name: {name}")
        keyrelay.write(f"{name}.yml", text.replace("servers: servers", f"servers: {server}"))
    ends_soon = keyrelay.folder / "second.yml"
    short = (
        ends_soon.read_text().replace("lifetime: 365d", "lifetime: 20s").replace("grace: 30d", "grace: 0s")
    )
    ends_soon.write_text(short)
    for name in ("first", "second"):
        keyrelay("apply", f"{name}.yml", *INVENTORY, "--yes").ended(0)
    assert wait_until(lambda: "expired" in keyrelay("prove", *INVENTORY).out, timeout_s=60)

    before = key_of(keyrelay, "server-01")
    keyrelay("apply", "first.yml", *INVENTORY, "--yes", "--new-key").ended(0)
    leaked = key_of(keyrelay, "server-01")
    assert leaked != before
    keyrelay("compromise", *LEAK, "--", leaked).ended(0)
    assert key_of(keyrelay, "server-01") != leaked

    keyrelay("apply", "second.yml", *INVENTORY, "--yes").ended(0)
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")


def test_a_lost_key_is_replaced_once_every_agent_has_proven_the_next(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, _ = fleet
    lost = key_of(keyrelay, "server-01")
    keyrelay("compromise", "--lost", *LEAK, "--", lost).ended(0).line("is removed")
    assert key_of(keyrelay, "server-01") != lost


def test_a_host_that_is_removed_holds_nothing_any_more(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, lab = fleet
    removed = keyrelay("remove", "server-02", "--yes").ended(0)
    removed.line("server-02: nothing is left on it")
    removed.line("take it out of the inventory")
    assert not list((lab.host("server-02").base / "server" / "credentials").iterdir())
    assert "server-02" not in (lab.host("agent-001").base / "agent" / "current" / "edges").read_text()
    assert "server-02 holds no key" in keyrelay("holdings", "server-02").ended(0).out
    assert keyrelay.json("remove", "agent-002", "--yes")["clean"]
    assert not (lab.host("agent-002").base / "agent" / "current" / "edges").read_text()


def test_a_host_that_is_gone_is_only_removed_when_it_is_given_up(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, lab = fleet
    keyrelay("apply", "playbooks/shared.yml", *INVENTORY, "--yes").ended(0)
    (shared,) = keys_in_use(lab.directory / "hosts")
    lab.stop("server-02")

    refused = keyrelay("remove", "server-02", "--yes").ended(1)
    refused.line("server-02 cannot be cleaned", "refused")
    refused.line("keyrelay remove --give-up")
    key = key_of(keyrelay, "server-02")
    keyrelay("remove", "server-02", "--give-up", "--yes").ended(0).line("a person gave it up")

    assert keys_in_use(lab.directory / "hosts") - {shared}, "server-01 has left the key they shared"
    keyrelay("holders", "--", key).ended(0).line("server-02", "private")
    assert "server-02" not in (lab.host("agent-001").base / "agent" / "current" / "edges").read_text()


@pytest.mark.parametrize(
    "words", [("compromise", *LEAK[:2], "--", "abc"), ("remove", "server-01")], ids=["compromise", "remove"]
)
def test_without_a_terminal_nothing_is_done_that_was_not_agreed_to(
    founded: Terminal, inside: Terminal, words: tuple[str, ...]
) -> None:
    del inside
    refused = founded(*words).ended(2)
    refused.line(f"error: {words[0]} changes hosts, and there is no terminal to ask on")
    refused.line("say --yes")
