"""A server of a lab is wiped and set up again, and an independent witness looks at every agent meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lab import Lab
from tests.cli.conftest import MakeFleet
from tests.cli.terminal import ROOT, Terminal, keys_in_use

INVENTORY = ("-i", "lab/inventory.yml")
SERVER = "server-01"
WRONG = f"SHA256:{'A' * 43}"


@contextmanager
def witnessed(lab: Lab, report: Path) -> Iterator[dict[str, Any]]:
    """Reads the hosts' own files all the time; what it saw is there at the end."""
    seen: dict[str, Any] = {}
    command = [sys.executable, "-m", "orchestrator.lab.watcher", str(lab.directory), "--report", str(report)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as witness:
        try:
            yield seen
        finally:
            witness.send_signal(signal.SIGTERM)
            witness.wait(60)
    seen.update(json.loads(report.read_text(encoding="ascii")))


def wipe(lab: Lab, name: str) -> str:
    """Set a host up anew, with nothing on it and another SSH host key; returns that one's fingerprint."""
    shutil.rmtree(lab.host(name).base)
    lab.replace_host_key(name)
    public = lab.directory / "control" / name / "host_key.pub"
    told = subprocess.run(["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True).stdout
    return told.split()[1]


@pytest.mark.parametrize(
    "playbook", ["shared", "per-server"], ids=["key in the vault", "key made on the server"]
)
def test_a_server_that_was_wiped_comes_back_and_no_agent_ever_distrusts_a_live_key(
    make_fleet: MakeFleet, playbook: str
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    play, hosts = f"playbooks/{playbook}.yml", keyrelay.folder / "lab" / "hosts"
    in_vault = playbook == "shared"
    keyrelay("apply", play, *INVENTORY, "--yes").ended(0)
    before = keys_in_use(hosts)

    with witnessed(lab, keyrelay.folder / "report.json") as seen:
        fingerprint = wipe(lab, SERVER)
        refuses_the_naive_way(keyrelay, lab, play, in_vault=in_vault)
        refuses_a_key_without_the_right_word(keyrelay)
        done = keyrelay("reinstall", SERVER, *INVENTORY, "--host-key", fingerprint, "--yes").ended(0)
        assert ("is lost" in done.out) is not in_vault
        keyrelay("prove", *INVENTORY).ended(0)

    assert (seen["moments"], seen["examples"], seen["looks"] > 0) == (0, [], True)
    after = keys_in_use(hosts)
    assert (after == before) is in_vault
    assert len(after) == len(before)
    assert keyrelay("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"
    assert keyrelay("apply", play, *INVENTORY, "--yes").ended(0).line("nothing to do")
    assert "@revoked" in (keyrelay.folder / ".keyrelay" / "first_use_hosts").read_text(encoding="utf-8")


def refuses_the_naive_way(keyrelay: Terminal, lab: Lab, play: str, *, in_vault: bool) -> None:
    """Somebody corrects known_hosts and asks for a new certificate, as for any other server."""
    known = lab.known_hosts.read_bytes()
    lab.accept_host_keys()
    new_key = ("--new-key",) if in_vault else ()
    planned = keyrelay("plan", play, *INVENTORY, *new_key).ended(0)
    planned.line("warning: server-01 lost the key that 2 agents trust", "keyrelay reinstall server-01")
    assert "to do exactly this" not in planned.err
    refused = keyrelay("apply", play, *INVENTORY, "--yes", *new_key).ended(1)
    refused.line("error: server-01 lost the key in use", "strands the 2 agents that trust it")
    refused.line("hint: ", "keyrelay reinstall server-01")
    assert not (lab.host(SERVER).base / "server").exists()
    lab.known_hosts.write_bytes(known)


def refuses_a_key_without_the_right_word(keyrelay: Terminal) -> None:
    keyrelay("reinstall", SERVER, *INVENTORY).ended(2).line("no terminal to ask on")
    keyrelay("reinstall", SERVER, *INVENTORY, "--yes").ended(1).line("changed: found SHA256:", "expected")
    wrong = keyrelay("reinstall", SERVER, *INVENTORY, "--yes", "--host-key", WRONG).ended(1)
    wrong.line("is not the one that was vouched for: found SHA256:", WRONG)
    keyrelay("reinstall", SERVER, *INVENTORY, "--yes", "--host-key", "yes").ended(2).line("is no fingerprint")
