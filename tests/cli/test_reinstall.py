"""A server of a lab is wiped and set up again, and an independent witness looks at every agent meanwhile."""

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.cli.conftest import MakeFleet
from tests.cli.terminal import Terminal, keys_in_use
from tests.witness import watching

INVENTORY = ("-i", "lab/inventory.yml")
ITS = ("--backup-passphrase-file", "backup.passphrase")
SERVER = "server-01"
WRONG = f"SHA256:{'A' * 43}"

pytestmark = pytest.mark.usefixtures("inside")


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

    with watching(lab.directory, keyrelay.folder / "report.json"):
        fingerprint = wipe(lab, SERVER)
        refuses_the_naive_way(keyrelay, lab, play, in_vault=in_vault)
        refuses_a_key_without_the_right_word(keyrelay)
        done = keyrelay("reinstall", SERVER, *INVENTORY, "--host-key", fingerprint, "--yes").ended(0)
        assert ("is lost" in done.out) is not in_vault
        keyrelay("prove", *INVENTORY).ended(0)

    after = keys_in_use(hosts)
    assert (after == before) is in_vault
    assert len(after) == len(before)
    assert keyrelay("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"
    assert keyrelay("apply", play, *INVENTORY, "--yes").ended(0).line("nothing to do")
    assert "@revoked" in (keyrelay.folder / ".keyrelay" / "first_use_hosts").read_text(encoding="utf-8")


@pytest.mark.parametrize("playbook", ["shared", pytest.param("per-server", marks=pytest.mark.long)])
@pytest.mark.parametrize("later", [False, True], ids=["newest backup", "a rollout since the backup"])
def test_a_server_and_the_home_are_gone_and_a_backup_file_brings_both_back_and_no_agent_ever_notices(
    make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, playbook: str, *, later: bool
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    play = keyrelay.folder / "playbooks" / f"{playbook}.yml"
    play.write_text(play.read_text(encoding="utf-8").replace("origin: server", "origin: controller"))
    play, hosts = play.relative_to(keyrelay.folder), lab.directory / "hosts"
    apply = ("apply", play, *INVENTORY, "--yes")
    keyrelay.write("backup.passphrase", "a passphrase for backups\n")
    keyrelay(*apply).ended(0)

    with watching(lab.directory, tmp_path / "report.json"):
        keyrelay("backup", "fleet.backup", *ITS).ended(0)
        if later:
            keyrelay(*apply, "--new-key").ended(0)
        before = keys_in_use(hosts)
        fingerprint = wipe(lab, SERVER)
        there = another_machine(keyrelay, tmp_path / "another", monkeypatch)

        there("init", "--root-passphrase-file", "root.passphrase").ended(0)
        there(*apply).ended(1).line("error: ", "followed a ledger that is newer than this one")
        shutil.rmtree(there.folder / ".keyrelay")

        restore = ("restore", "fleet.backup", *ITS, *INVENTORY, "--playbook", play, "--yes")
        there(*restore).ended(1).line("not every host tells what it holds: server-01: host key")
        there(*restore, "--host-key", f"{SERVER}={WRONG}").ended(1).line("not the one that was vouched for")
        restored = there(*restore, "--host-key", f"{SERVER}={fingerprint}").ended(0)
        restored.line("restoring this strands no agent")
        naive = there(*apply, *(() if later else ("--new-key",))).ended(1)
        naive.line("error: server-01 lost the key in use", "strands the 2 agents that trust it")
        there("reinstall", SERVER, *INVENTORY, "--yes").ended(0)
        there("prove", *INVENTORY).ended(0)

    assert (keys_in_use(hosts) == before) is not later
    assert there("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"
    assert there(*apply).ended(0).line("nothing to do")


def another_machine(lost: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal on another machine, with what an operator brings; the home of before is gone."""
    folder.mkdir()
    for name in ("fleet.backup", "backup.passphrase", "vault.passphrase", "root.passphrase"):
        shutil.copy2(lost.folder / name, folder)
    shutil.copytree(lost.folder / "playbooks", folder / "playbooks")
    (folder / "lab").symlink_to((lost.folder / "lab").resolve())
    shutil.rmtree(lost.folder / ".keyrelay")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("KEYRELAY_PASSPHRASE_FILE", str(folder / "vault.passphrase"))
    return Terminal(folder=folder, inside=lost.inside)


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
    bare = keyrelay("reinstall", SERVER, *INVENTORY, "--yes").ended(1)
    bare.line("changed: found SHA256:", "expected", "say so with --host-key (keyrelay reinstall")
    wrong = keyrelay("reinstall", SERVER, *INVENTORY, "--yes", "--host-key", WRONG).ended(1)
    wrong.line("is not the one that was vouched for: found SHA256:", WRONG)
    keyrelay("reinstall", SERVER, *INVENTORY, "--yes", "--host-key", "yes").ended(2).line("is no fingerprint")
