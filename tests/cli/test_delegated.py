"""Servers that an issuer vouches for, and another issuer, on real hosts."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from orchestrator.keys.material import PublicKey
from orchestrator.lab import Lab
from tests.cli.terminal import Terminal, keys_in_use, shorten
from tests.witness import watching

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
DELEGATED = "playbooks/delegated.yml"
ROOT = ("--root-passphrase-file", "root.passphrase")


def in_agents(lab: Lab, file: str) -> set[str]:
    """What a file of the bundle in use says, on each agent."""
    agents = [host for host in lab.hosts if host.name.startswith("agent")]
    return {(host.base / "agent" / "current" / file).read_text() for host in agents}


def issuer_files(lab: Lab) -> list[list[Path]]:
    """The certificates of the issuers that may vouch, on each agent."""
    agents = [host for host in lab.hosts if host.name.startswith("agent")]
    return [list((host.base / "agent" / "current" / "issuers").iterdir()) for host in agents]


def bundles(lab: Lab) -> list[str]:
    agents = [host for host in lab.hosts if host.name.startswith("agent")]
    return [str((host.base / "agent" / "current").readlink()) for host in agents]


def test_a_fleet_goes_from_keys_to_an_issuer_renews_replaces_it_and_goes_back(
    make_fleet: MakeFleet, inside: Terminal, tmp_path: Path
) -> None:
    del inside
    keyrelay, lab = make_fleet(servers=2, agents=2)
    with watching(lab.directory, tmp_path / "seen"):
        go_there_and_back(keyrelay, lab)


def go_there_and_back(keyrelay: Terminal, lab: Lab) -> None:
    shorten(keyrelay.folder / DELEGATED, lifetime="60d")
    keyrelay("apply", "playbooks/per-server.yml", *INVENTORY, "--yes").ended(0)

    keyrelay("apply", DELEGATED, *INVENTORY, "--yes").ended(0).line("whatever issuer", "certifies")
    (delegations,) = in_agents(lab, "delegations")
    assert [line.split()[0] for line in delegations.splitlines()] == ["server-01", "server-02"]
    assert in_agents(lab, "edges") == {""}
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    keyrelay("audit", *INVENTORY).ended(0)

    before, held = keys_in_use(lab.directory / "hosts"), bundles(lab)
    keyrelay("apply", DELEGATED, *INVENTORY, "--yes", "--new-key").ended(0)
    assert not before & keys_in_use(lab.directory / "hosts")
    assert bundles(lab) == held
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")

    (issuers,) = {tuple(sorted(one.read_text() for one in there)) for there in issuer_files(lab)}
    keyrelay("ca", "renew", *ROOT, "--lifetime", "1000d").ended(0)
    keyrelay("audit", *INVENTORY).ended(4).line("previous", "its issuer's certificate was renewed since")
    keyrelay("watch", DELEGATED, *INVENTORY, "--once").ended(0)
    (renewed,) = {tuple(sorted(one.read_text() for one in there)) for there in issuer_files(lab)}
    assert renewed == (keyrelay.json("ca", "show")["issuer"]["pem"],) != issuers
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")

    rotated = keyrelay("ca", "rotate", *ROOT, "--yes", "--json").ended(0).json
    assert rotated["complete"]
    assert rotated["destroyed"]
    assert rotated["before"]["thumbprint"] != rotated["after"]["thumbprint"]
    (after,) = in_agents(lab, "delegations")
    assert {line.split()[1] for line in after.splitlines()}.isdisjoint(
        line.split()[1] for line in delegations.splitlines()
    )
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    keyrelay("audit", *INVENTORY).ended(0)

    keyrelay("apply", "playbooks/shared.yml", *INVENTORY, "--yes").ended(0)
    assert not any((host.base / "agent" / "current" / "delegations").exists() for host in lab.hosts)
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")


def test_a_leaked_key_is_denied_and_its_certificate_is_worth_nothing(
    make_fleet: MakeFleet, inside: Terminal
) -> None:
    del inside
    keyrelay, lab = make_fleet(servers=1, agents=1)
    shorten(keyrelay.folder / DELEGATED, lifetime="60d")
    keyrelay("apply", DELEGATED, *INVENTORY, "--yes").ended(0)
    (leaked,) = keys_in_use(lab.directory / "hosts")
    key = str(keyrelay.json("holdings", "server-01")["holdings"][0]["key"])
    keyrelay("holders", "--", key).ended(0).line("agent-001", "believed by its certificate")

    ended = keyrelay("compromise", "--reason", "on a train", "--yes", "--json", "--", key).ended(0).json

    assert (ended["state"], ended["broken"]) == ("removed", [])
    (denied,) = in_agents(lab, "denied")
    assert denied.split()[0] == PublicKey.from_pem(leaked).spki_digest
    assert leaked not in keys_in_use(lab.directory / "hosts")
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    keyrelay("audit", *INVENTORY).ended(0)


def test_an_agents_own_openssl_believes_what_its_bundle_says(make_fleet: MakeFleet, inside: Terminal) -> None:
    del inside
    keyrelay, lab = make_fleet(servers=1, agents=1)
    shorten(keyrelay.folder / DELEGATED, lifetime="60d")
    keyrelay("apply", DELEGATED, *INVENTORY, "--yes").ended(0)
    (issuer,) = (lab.host("agent-001").base / "agent" / "current" / "issuers").iterdir()
    certificate = lab.host("server-01").base / "server" / "current" / "cert.pem"
    command = ["openssl", "verify", "-partial_chain", "-trusted", str(issuer), str(certificate)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.stdout == f"{certificate}: OK\n"


def test_the_issuer_is_not_replaced_unasked_nor_without_the_roots_key(founded: Terminal) -> None:
    founded("ca", "rotate", *ROOT).ended(2).line("ca rotate changes hosts")
    founded.write("wrong.passphrase", "not this one\n")
    wrong = founded("ca", "rotate", "--root-passphrase-file", "wrong.passphrase", "--yes").ended(1)
    wrong.line("root.key: the passphrase is wrong")
    wrong.line("hint: it was read from wrong.passphrase: is that the right one?")
    founded("ca", "rotate", *ROOT, "--yes").ended(0).line("is destroyed")
    founded("ledger", "verify").ended(0)
