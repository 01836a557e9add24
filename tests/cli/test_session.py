"""The main job, as a person does it: what the README shows, and what must be true on the hosts afterwards."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from orchestrator.cli.machine import SystemClock
from orchestrator.lab import Lab
from tests.cli.terminal import ROOT, Terminal, keys_in_use, snapshot

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
SHARED = "playbooks/shared.yml"
PER_SERVER = "playbooks/per-server.yml"
LAST_TRY = 20


def wait_for(instants: Iterable[str]) -> None:
    """Until the last of the instants that keyrelay itself has named."""
    left = max(datetime.fromisoformat(instant) for instant in instants) - SystemClock().now()
    threading.Event().wait(max(0.0, left.total_seconds()))


def change(keyrelay: Terminal, playbook: str, old: str, new: str) -> None:
    path = keyrelay.folder / playbook
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_main_job_from_the_choice_of_a_policy_to_redistribution_on_expiry(
    make_fleet: MakeFleet, tmp_path: Path
) -> None:
    keyrelay, lab = make_fleet(servers=3, agents=8)
    change(keyrelay, PER_SERVER, "lifetime: 365d, renew_at: 2/3", "lifetime: 500s, renew_at: 1/20")
    watcher = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.lab.watcher", lab.directory, "--report", tmp_path / "seen"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        compared = keyrelay("policy", "compare", SHARED, *INVENTORY).ended(0)
        assert compared.line("keys in use").split()[-4:] == ["1", "2", "3", "3"]
        assert compared.line("edges an attacker").split()[-4:] == ["24", "16", "8", "8"]
        assert "recommended: per-server" in compared.out

        keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0).line("done: 11 hosts changed")
        assert keyrelay("audit", *INVENTORY).ended(0).out == "11 hosts ok\n"
        assert len(keys_in_use(lab.directory / "hosts")) == 1

        keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0).line("done: 11 hosts changed")
        assert len(keys_in_use(lab.directory / "hosts")) == 3
        assert keyrelay("prove", *INVENTORY).ended(0).out == "every edge holds: 24 proven\n"
        old = keyrelay.json("holdings", "server-01")["holdings"][0]["key"]

        soon = keyrelay("due", "--within", "60s").ended(4)
        soon.line(old, "server:server-01", "server-01")
        wait_for(one["due_at"] for one in keyrelay("due", "--within", "60s", "--json").json["due"])
        keyrelay("due").ended(4).line(old, "due since")

        for attempt in range(LAST_TRY + 1):
            watched = keyrelay("watch", "--once", PER_SERVER, *INVENTORY, "--json")
            if watched.code == 0:
                break
            assert attempt < LAST_TRY
            wait_for(wait["until"] for wait in watched.ended(3).json["plays"][0]["waits"])
        assert keyrelay("audit", *INVENTORY).ended(0).out == "11 hosts ok\n"
        new = keyrelay.json("holdings", "server-01")["holdings"][0]["key"]
        assert new != old
        assert "nobody holds it" in keyrelay("holders", old).ended(0).out
        keyrelay("holders", new[:20]).ended(0).line("server-01", "private", "active")
        keyrelay("ledger", "verify").ended(0).line("the ledger is whole")
    finally:
        watcher.send_signal(signal.SIGTERM)
        code = watcher.wait(30)
    seen = json.loads((tmp_path / "seen").read_text(encoding="ascii"))
    assert seen["looks"] > 1000
    assert (seen["moments"], seen["examples"], code) == (0, [], 0)


def test_a_second_apply_changes_no_file_and_says_so(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    plan = keyrelay("plan", SHARED, *INVENTORY).ended(0)
    digest = plan.line("plan: ").removeprefix("plan: ")
    plan.line("to do exactly this: keyrelay apply", "--plan", digest[:16])
    keyrelay("apply", SHARED, *INVENTORY, "--plan", digest[:16]).ended(0)
    assert len(keys_in_use(lab.directory / "hosts")) == 1
    before, entries = snapshot(lab.directory / "hosts"), keyrelay.json("ledger", "verify")

    again = keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)

    assert "nothing to do: 4 hosts are as the playbook asks" in again.out
    assert keyrelay.json("apply", SHARED, *INVENTORY, "--yes")["plays"][0]["result"] == "nothing-to-do"
    assert keyrelay.json("ledger", "verify") == entries
    assert snapshot(lab.directory / "hosts") == before


def test_each_policy_leaves_as_many_keys_on_the_servers_as_it_promises(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=3, agents=2)
    found = []
    for name in ("per-server", "per-group", "shared"):
        keyrelay("apply", f"playbooks/{name}.yml", *INVENTORY, "--yes").ended(0)
        found.append(len(keys_in_use(lab.directory / "hosts")))
    assert found == [3, 2, 1]


def test_a_hook_runs_on_each_server_with_its_own_variables(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=1)
    hook = 'hooks: {activated: "echo {{ inventory_hostname }} >> {{ keyrelay_base }}/reloaded"}'
    change(keyrelay, SHARED, "\n  service: follows", f"\n  {hook}")

    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)

    told = [(lab.host(name).base / "reloaded").read_text() for name in ("server-01", "server-02")]
    assert told == ["server-01\n", "server-02\n"]


def test_two_plays_of_one_file_are_taken_in_turn_and_each_plan_is_agreed_to(make_fleet: MakeFleet) -> None:
    keyrelay, _ = make_fleet(servers=2, agents=1)
    play = "servers: {}, agents: agents, policy: shared, service: follows"
    names = ("one", "two")
    keyrelay.write(
        "two.yml",
        "".join(
            f"- {{name: {name}, {play.format(server)}}}\n"
            for name, server in zip(names, ("server-01", "server-02"), strict=True)
        ),
    )
    digests = [play["digest"] for play in keyrelay.json("plan", "two.yml", *INVENTORY)["plays"]]

    one_digest = keyrelay("apply", "two.yml", *INVENTORY, "--plan", digests[0]).ended(2)
    one_digest.line("1 digests for 2 plays")
    done = keyrelay("--json", "apply", "two.yml", *INVENTORY, "--yes").ended(0).json

    assert [(play["playbook"], play["result"]) for play in done["plays"]] == [
        ("one", "done"),
        ("two", "done"),
    ]
    keyrelay("audit", *INVENTORY).ended(0)

    second = keyrelay.json("plan", "two.yml", *INVENTORY)["plays"][1]["digest"]
    half = keyrelay("apply", "two.yml", *INVENTORY, "--plan", "0" * 16, "--plan", second).ended(1)
    half.line("error: the plan has changed")
    half.line("two: policy shared")


def test_keys_that_come_due_while_nobody_agreed_to_a_change_are_not_changed_to_something_else(
    make_fleet: MakeFleet,
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=1)
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)
    before = keys_in_use(lab.directory / "hosts")

    refused = keyrelay("watch", "--once", PER_SERVER, *INVENTORY).ended(1)

    refused.line("error: ", "asks for something else")
    refused.line("hint: ", "keyrelay plan")
    assert keys_in_use(lab.directory / "hosts") == before


def test_shipped_playbooks_run_as_they_are(make_fleet: MakeFleet) -> None:
    keyrelay, _ = make_fleet(servers=2, agents=1)
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        keyrelay("policy", "compare", path, *INVENTORY).ended(0)
    shipped = ROOT / "playbooks" / "redistribute-on-expiry.yml"
    keyrelay("apply", shipped, *INVENTORY, "--yes", "--wait", "0s").ended(0)
    keyrelay("due").ended(0)
    keyrelay("due", "--within", "1d").ended(4)
    keyrelay("watch", "--once", shipped, *INVENTORY).ended(0).line("nothing to do")


def test_a_wait_that_is_too_long_for_this_run_is_gone_on_with_by_the_next(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=1)
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)
    change(keyrelay, SHARED, "soak: 0s", "soak: 3s")

    stopped = keyrelay("apply", SHARED, *INVENTORY, "--yes", "--new-key", "--wait", "0s").ended(3)
    stopped.line("server-01", "the soak")
    stopped.line("not finished: the next apply or watch goes on")
    keyrelay("rollout", "show").ended(0).line("server-01", "until ")
    keyrelay("rollout", "list").ended(0).line("under way")
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0).line("done:")
    keyrelay("rollout", "show").ended(0).line("ended")
    assert len(list((lab.host("server-01").base / "server" / "credentials").iterdir())) == 1
