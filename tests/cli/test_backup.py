"""Backups on a real fleet: taken, checked, restored elsewhere while the controller of before is alive."""

import json

from tests.cli.conftest import MakeFleet
from tests.cli.terminal import Terminal

INVENTORY = ("-i", "lab/inventory.yml")
APPLY = ("apply", "playbooks/shared.yml", *INVENTORY, "--yes", "--wait", "60s")
ITS = ("--backup-passphrase-file", "backup.passphrase")


def test_a_backup_is_restored_elsewhere_and_the_controller_of_before_stops(make_fleet: MakeFleet) -> None:
    terminal = fleet(make_fleet)
    terminal(*APPLY).ended(0)
    taken = terminal("backup", "kept.backup", *ITS).ended(0)
    assert "holds 1 private key, the ledger, and the issuer's key" in taken.out
    terminal(*APPLY, "--new-key").ended(0)

    check = terminal(
        "backup", "--check", "kept.backup", *ITS, *INVENTORY, "--root-passphrase-file", "root.passphrase"
    )
    told = check.ended(0).out
    assert "can be restored" in told
    assert "1 key that it does not know would be taken over from the hosts" in told
    assert "restoring this strands no agent" in told
    without = terminal("backup", "--check", "kept.backup", *ITS).ended(0).out
    assert "1 key that it does not know would be taken over from the hosts" in without
    assert "no host was visited: this is by the ledger of the home that is here" in without
    assert "answered" not in without

    there = ("--home", "elsewhere")
    restored = terminal(*there, "restore", "kept.backup", *ITS, "--yes").ended(0)
    assert "generation 2, epoch 2" in restored.out
    assert "stopped" not in terminal("audit", *INVENTORY).out
    terminal(*APPLY, "--new-key").ended(1)
    assert "this home has stopped for good" in terminal(*APPLY, "--new-key").ended(1).err
    terminal(*there, *APPLY).ended(0)
    terminal(*there, "audit", *INVENTORY).ended(0)
    terminal(*there, "prove", *INVENTORY).ended(0)
    terminal(*there, *APPLY, "--new-key").ended(0)
    terminal(*there, "prove", *INVENTORY).ended(0)


def test_a_key_is_removed_only_when_no_backup_holds_it(make_fleet: MakeFleet) -> None:
    terminal = fleet(make_fleet)
    terminal(*APPLY).ended(0)
    (key,) = keys(terminal)
    taken = json.loads(terminal("backup", "kept.backup", *ITS, "--json").ended(0).out)
    terminal(*APPLY, "--new-key").ended(0)

    old = next(one for one in keys(terminal) if one["thumbprint"] == key["thumbprint"])
    assert old["state"] == "retired"
    held = json.loads(terminal("holders", key["thumbprint"], "--json").ended(0).out)["holders"]
    assert [(one["host"], one["standing"]) for one in held] == [
        (f"backup:{taken['id']}", str(terminal.folder / "kept.backup"))
    ]
    assert key["thumbprint"] in terminal("holdings", f"backup:{taken['id']}").ended(0).out
    assert "still holds 1 key that ended" in terminal("audit", *INVENTORY).ended(0).err
    terminal("backup", "reseal", taken["id"], *ITS).ended(0)
    assert next(one for one in keys(terminal) if one["thumbprint"] == key["thumbprint"])["state"] == "removed"
    terminal("backup", "--check", "kept.backup", *ITS).ended(0)
    listed = json.loads(terminal("backup", "list", "--json").ended(0).out)["backups"]
    assert [(one["id"], one["keys"]) for one in listed] == [(taken["id"], [])]
    terminal("backup", "prune", "--keep", "0").ended(0).line("not counted: 1 backup written by hand")
    assert (terminal.folder / "kept.backup").exists()
    terminal("backup", "prune", "--keep", "0", "--all").ended(0).line(f"removed: {taken['id']}")
    assert not (terminal.folder / "kept.backup").exists()


def test_a_backup_is_taken_before_each_rollout_that_retires_a_key_and_the_oldest_go(
    make_fleet: MakeFleet,
) -> None:
    terminal = fleet(make_fleet)
    (terminal.folder / "shelf").mkdir()
    terminal("backup", "keep", "shelf", "--keep", "2", *ITS).ended(0)
    assert "another backup is due" in terminal("due").ended(4).out
    terminal(*APPLY).ended(0)
    assert list((terminal.folder / "shelf").iterdir()) == []
    for number in (1, 2, 2):
        terminal(*APPLY, "--new-key").ended(0)
        assert len(list((terminal.folder / "shelf").iterdir())) == number
    newest = max((terminal.folder / "shelf").iterdir())
    terminal("backup", "--check", str(newest), *ITS).ended(0)
    terminal("due").ended(0)


def test_the_service_that_watches_may_write_where_automatic_backups_are_and_were(founded: Terminal) -> None:
    founded.write("backup.passphrase", "a passphrase for backups\n")
    unit = ("watch", "playbooks/shared.yml", *INVENTORY, "--systemd")
    home = f"ReadWritePaths={founded.folder}/.keyrelay"
    assert f"{home}\n" in founded(*unit).ended(0).out
    (founded.folder / "shelf").mkdir()
    founded("backup", "keep", "shelf", *ITS).ended(0)
    assert f"{home} -{founded.folder}/shelf\n" in founded(*unit).ended(0).out


def test_what_is_no_backup_or_not_whole_is_refused_and_leaves_nothing(founded: Terminal) -> None:
    founded.write("backup.passphrase", "a passphrase for backups\n")
    founded("backup", "kept.backup", *ITS).ended(0)
    whole = (founded.folder / "kept.backup").read_bytes()
    for name, data in (
        ("cut", whole[:-1]),
        ("changed", whole[:-1] + bytes([whole[-1] ^ 1])),
        ("other", b"other"),
    ):
        (founded.folder / name).write_bytes(data)
        founded("--home", "elsewhere", "restore", name, *ITS, "--yes").ended(1)
        founded("backup", "--check", name, *ITS).ended(1)
    wrong = ("--backup-passphrase-file", "root.passphrase")
    for refused in (
        founded("--home", "elsewhere", "restore", "kept.backup", *wrong, "--yes").ended(1),
        founded("backup", "--check", "kept.backup", *wrong).ended(1),
    ):
        refused.line("error: ", "kept.backup: the passphrase is wrong")
        refused.line("hint: it was read from root.passphrase")
    assert "there is a home at" in founded("restore", "kept.backup", *ITS, "--yes").ended(2).err
    assert "there is a file already" in founded("backup", "kept.backup", *ITS).ended(1).err
    assert not [entry.name for entry in founded.folder.iterdir() if entry.name.startswith("elsewhere")]
    assert (founded.folder / "kept.backup").read_bytes() == whole


def fleet(make_fleet: MakeFleet) -> Terminal:
    terminal, _ = make_fleet(servers=1, agents=2)
    terminal.write("backup.passphrase", "a passphrase for backups\n")
    return terminal


def keys(terminal: Terminal) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(terminal("cert", "list", "--json").ended(0).out)["keys"]
    return found
