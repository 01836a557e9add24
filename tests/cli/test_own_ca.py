"""A play whose certificates come from somebody else's CA, on real hosts."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from orchestrator.lab import Lab
from tests.authorities import OurCa
from tests.cli.terminal import Terminal

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PLAYBOOK = "playbooks/per-server.yml"


def issuers(hosts: Path) -> dict[str, str]:
    """Who certified the key that each server of a lab uses, asked of openssl and the hosts' own files."""
    found = {}
    for file in sorted(hosts.glob("server-*/keyrelay/server/current/cert.pem")):
        asked = ["openssl", "x509", "-noout", "-issuer", "-nameopt", "compat"]
        done = subprocess.run([*asked, "-in", file], check=True, capture_output=True, text=True)
        found[file.relative_to(hosts).parts[0]] = done.stdout.strip()
    return found


def test_servers_get_certificates_of_ones_own_ca_and_a_ca_that_fails_is_named(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=2)
    ours = OurCa.make(keyrelay.folder / "our-ca")
    program = ours.program("openssl ca -batch")
    playbook = keyrelay.folder / PLAYBOOK
    text = playbook.read_text(encoding="utf-8")
    keyrelay.write(PLAYBOOK, f"{text}  issuer: {{command: [{program}], root: ../our-ca/issuer.pem}}\n")

    program.rename(ours.folder / "away")
    planned = keyrelay("plan", PLAYBOOK, *INVENTORY).ended(0)
    planned.line(f"warning: the issuer's command {program} cannot be run: No such file or directory")
    failed = keyrelay("apply", PLAYBOOK, *INVENTORY, "--yes").ended(3)
    failed.line("server-01", f"the issuer's command {program} cannot be run: No such file or directory")

    (ours.folder / "away").rename(program)
    keyrelay("apply", PLAYBOOK, *INVENTORY, "--yes").ended(0)
    ended = dict.fromkeys(("server-01", "server-02"), "issuer=/O=ours/CN=issuer")
    assert issuers(lab.directory / "hosts") == ended
    assert keyrelay("audit", *INVENTORY).ended(0).out == "4 hosts ok\n"
    keyrelay("apply", PLAYBOOK, *INVENTORY, "--yes").ended(0).line("nothing to do")

    keyrelay.write(PLAYBOOK, text)
    keyrelay("plan", PLAYBOOK, *INVENTORY).ended(0).line("its certificate is to come from another issuer")
