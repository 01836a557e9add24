"""A kind of key chosen in the playbook, on real hosts: made, proven, and refused where openssl cannot."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.lab import HostOptions, Lab
from tests.cli.terminal import Terminal, keys_in_use

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PLAYBOOK = Path("playbooks/per-server.yml")
APPLY = ("apply", PLAYBOOK, *INVENTORY, "--yes")
OLD = "agent-001"

pytestmark = pytest.mark.usefixtures("inside")


def choose(keyrelay: Terminal, algorithm: str) -> None:
    """Write another kind of key into the playbook."""
    path = keyrelay.folder / PLAYBOOK
    text, changed = re.subn(r"algorithm: [a-z0-9-]+", f"algorithm: {algorithm}", path.read_text("utf-8"))
    assert changed == 1
    path.write_text(text, "utf-8")


def openssl(*arguments: str | Path, said: str = "") -> str:
    """What openssl answers on this machine."""
    return subprocess.run(
        ["openssl", *arguments], input=said, text=True, capture_output=True, check=True
    ).stdout


def test_rsa_keys_take_over_and_openssl_finds_them_on_the_hosts(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    keyrelay(*APPLY).ended(0)
    choose(keyrelay, "rsa-3072")
    keyrelay(*APPLY).ended(0).line("done: ")

    keys = keys_in_use(lab.directory / "hosts")
    assert len(keys) == 2
    for key in keys:
        told = openssl("pkey", "-pubin", "-noout", "-text", said=key)
        assert "(3072 bit)" in told
        assert "65537 (0x10001)" in told
    for server in ("server-01", "server-02"):
        current = lab.host(server).base / "server" / "current"
        assert openssl("x509", "-in", current / "cert.pem", "-noout", "-pubkey") in keys
    assert keyrelay("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"
    assert keyrelay("prove", *INVENTORY).ended(0).out.splitlines()[-1] == "every edge holds: 4 proven"


def test_a_plan_beyond_a_hosts_openssl_is_refused_and_says_what_would_do(
    make_fleet: MakeFleet, lab_folder: Path
) -> None:
    programs = lab_folder / "programs"
    programs.mkdir()
    for folder in map(Path, ("/usr/sbin", "/usr/bin", "/sbin", "/bin")):
        for program in folder.iterdir() if folder.is_dir() else ():
            if program.name != "openssl" and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    real = shutil.which("openssl") or "/missing"
    (programs / "openssl").write_text(
        "#!/bin/sh\n"
        "case $* in version) echo 'OpenSSL 1.1.1w  11 Sep 2023' ;;\n"
        "  *-rawin*) echo unknown option -rawin >&2; exit 1 ;;\n"
        f'  *) exec {real} "$@" ;; esac\n'
    )
    (programs / "openssl").chmod(0o755)
    keyrelay, lab = make_fleet(
        servers=2, agents=2, options={OLD: HostOptions(environment={"PATH": str(programs)})}
    )

    for command in (("plan", PLAYBOOK, *INVENTORY), APPLY):
        refused = keyrelay(*command).ended(1)
        refused.line("1 host cannot sign or verify with ed25519")
        assert f"{OLD} has OpenSSL 1.1.1w" in " ".join(refused.err.split())
        assert "ecdsa-p256 or rsa-3072" in " ".join(refused.err.split())
    assert keyrelay.json("cert", "list")["keys"] == []
    assert not keys_in_use(lab.directory / "hosts")

    choose(keyrelay, "rsa-3072")
    keyrelay(*APPLY).ended(0).line("done: ")
    assert keyrelay("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"
