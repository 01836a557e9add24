"""Root and issuer as a person looks after them: shown, renewed, and what they revoke published."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.lab import Lab
from tests.cli.terminal import Terminal
from tests.softhsm import MODULE, PIN, SoftHsm

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PLAYBOOK = "playbooks/per-server.yml"
CERT = "hosts/server-01/keyrelay/server/current/cert.pem"

pytestmark = pytest.mark.usefixtures("inside")


def openssl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False)


def test_root_and_issuer_are_shown_due_and_renewed_and_the_root_may_lie_elsewhere(founded: Terminal) -> None:
    shown = founded("ca", "show").ended(0)
    shown.line("root: CN=keyrelay root,O=")
    shown.line("kept in", "root.key")
    shown.line("kept in", "the vault")
    shown.line("no list of revoked certificates")
    assert founded("due").ended(0).out == "nothing is due\n"
    founded("due", "--within", "1300d").ended(4).line("issuer", "due in")
    (due,) = founded("due", "--within", "1300d", "--json").json["authorities"]
    assert due["role"] == "issuer"

    before = founded.json("ca", "show")
    moved = founded.folder / "safe.key"
    (founded.folder / ".keyrelay/root.key").rename(moved)
    founded("ca", "show").ended(0).line("kept in", "was moved away")
    renew = ("ca", "renew", "--root-passphrase-file", "root.passphrase")
    founded(*renew).ended(1).line("root.key: No such file")
    founded(*renew, "--root-key", moved, "--lifetime", "6000d").ended(0).line("renewed CN=keyrelay issuer")
    founded(*renew, "--root-key", moved, "--lifetime", "9000d").ended(1).line("can certify until")
    founded(*renew, "--root-key", moved, "--root", "--lifetime", "9000d").ended(0).line("CN=keyrelay root")
    after = founded.json("ca", "show")
    for part in ("root", "issuer"):
        assert after[part]["thumbprint"] == before[part]["thumbprint"]
        assert after[part]["not_after"] > before[part]["not_after"]
        assert after[part]["serial"] != before[part]["serial"]
    assert founded("ledger", "verify").ended(0).out.startswith("the ledger is whole: 3 entries")


def test_a_leaked_key_is_on_the_published_list_and_openssl_refuses_its_certificate(
    make_fleet: MakeFleet,
) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=1)
    folder = keyrelay.folder
    keyrelay("apply", PLAYBOOK, *INVENTORY, "--yes").ended(0)
    (folder / "leaked.pem").write_bytes((lab.directory / CERT).read_bytes())
    authority = keyrelay.json("ca", "show")
    for part in ("root", "issuer"):
        (folder / f"{part}.pem").write_text(authority[part]["pem"], encoding="ascii")
    chain = ("-CAfile", "root.pem", "-untrusted", "issuer.pem")
    verify = ("verify", "-x509_strict", "-crl_check", "-CRLfile", "crl.pem", *chain)

    keyrelay("ca", "crl", "-o", "crl.pem").ended(0).line(
        "list 1 of CN=keyrelay issuer", "0 certificates revoked"
    )
    assert openssl(folder, *verify, "leaked.pem").returncode == 0

    key = keyrelay.json("holdings", "server-01")["holdings"][0]["key"]
    keyrelay("compromise", "--reason", "found on a train", "--yes", "--wait", "60s", "--", key).ended(0)
    keyrelay("ca", "crl", "-o", "crl.pem", "--valid", "2d").ended(0).line("keyCompromise")
    assert (folder / "crl.pem").stat().st_mode & 0o777 == 0o644
    checked = openssl(folder, "crl", "-in", "crl.pem", "-CAfile", "issuer.pem", "-noout", "-crlnumber")
    assert "verify OK" in checked.stderr
    assert checked.stdout == "crlNumber=0x02\n"
    refused = openssl(folder, *verify, "leaked.pem")
    assert refused.returncode == 2
    assert "certificate revoked" in refused.stderr
    (folder / "now.pem").write_bytes((lab.directory / CERT).read_bytes())
    assert openssl(folder, *verify, "now.pem").returncode == 0

    keyrelay("ca", "crl", "-o", "crl.der", "--der").ended(0)
    assert openssl(folder, "crl", "-in", "crl.der", "-inform", "DER", "-noout").returncode == 0
    assert keyrelay("ca", "crl").ended(0).out.startswith("-----BEGIN X509 CRL-----\n")
    keyrelay("ca", "crl", "-o", "nowhere/crl.pem").ended(2).line("nowhere/crl.pem: No such file")
    (shown,) = keyrelay.json("ca", "show")["crls"]
    assert shown["number"] == 5
    assert [one["reason"] for one in shown["revoked"]] == ["keyCompromise"]
    keyrelay("due", "--within", "5d").ended(4).line("the list of revoked certificates", "due in")


def test_a_replaced_issuer_is_on_the_roots_list_and_openssl_refuses_what_it_certified(
    make_fleet: MakeFleet,
) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=1)
    folder = keyrelay.folder
    root = ("--root-passphrase-file", "root.passphrase")
    keyrelay("apply", PLAYBOOK, *INVENTORY, "--yes").ended(0)
    kept = {"before": (lab.directory / CERT).read_bytes()}
    for part in ("root", "issuer"):
        (folder / f"{part}.pem").write_text(keyrelay.json("ca", "show")[part]["pem"], encoding="ascii")
    keyrelay("ca", "crl", "-o", "first.crl").ended(0)
    keyrelay("ca", "crl", "--root", "-o", "root.crl", *root).ended(0).line("list 2 of CN=keyrelay root")

    keyrelay("ca", "rotate", "--yes", "--wait", "120s", *root).ended(0)
    kept["after"] = (lab.directory / CERT).read_bytes()
    for name, pem in kept.items():
        (folder / f"{name}.pem").write_bytes(pem)
    issuer = keyrelay.json("ca", "show")["issuer"]["pem"]
    (folder / "both.pem").write_text((folder / "issuer.pem").read_text(encoding="ascii") + issuer)
    lists = ("-CRLfile", "first.crl", "-CRLfile", "second.crl", "-CRLfile", "root.crl")
    verify = (
        "verify",
        "-x509_strict",
        "-crl_check_all",
        *lists,
        "-CAfile",
        "root.pem",
        "-untrusted",
        "both.pem",
    )
    keyrelay("due").ended(4).line("the root's list of revoked issuers", "due since")
    keyrelay("ca", "crl", "-o", "second.crl").ended(0).line("the root has to revoke it")
    assert openssl(folder, *verify, "after.pem").returncode == 0

    keyrelay("ca", "crl", "--root", "-o", "root.crl", *root).ended(0).line("superseded")
    assert openssl(folder, *verify, "after.pem").returncode == 0
    refused = openssl(folder, *verify, "before.pem")
    assert refused.returncode == 2
    assert "certificate revoked" in refused.stderr
    assert "the root has to revoke it" not in keyrelay("ca", "crl", "-o", "second.crl").ended(0).out
    keyrelay("due").ended(0)


def test_a_fleet_whose_authority_is_in_a_token_hands_over_renews_and_revokes(
    terminal: Terminal, inside: Terminal, make_lab: Callable[..., Lab], hsm: SoftHsm
) -> None:
    keyrelay = inside
    keyrelay.write("pin", f"{PIN}\n")
    keyrelay.write("wrong.pin", "no pin at all\n")
    before = hsm.objects()
    init = ("ca", "init", "--module", MODULE, "--token", "fleet", "--issuer-lifetime", "900d")
    keyrelay("--pin-file", "wrong.pin", *init).ended(1).line("token 'fleet'", "the PIN is wrong")
    keyrelay(*init, "--pin-file", "pin", "--root-lifetime", "800d").ended(1).line("can certify until")
    assert hsm.objects() == before
    assert not (keyrelay.folder / ".keyrelay").exists()
    keyrelay(*init, "--pin-file", "pin").ended(0).line("founded fleet")
    assert [path.name for path in (keyrelay.folder / ".keyrelay").glob("*.key")] == []
    shown = keyrelay.json("ca", "show")
    assert shown["root"]["key_is_in"] == shown["issuer"]["key_is_in"]
    assert "token fleet (serial " in shown["issuer"]["key_is_in"]

    lab = make_lab(servers=1, agents=1)
    play = "{name: a, servers: servers, agents: agents, policy: per-server, service: follows"
    short = "messages: {validity: 1s, clock_skew: 1s}, rollout: {soak: 0s}"
    keyrelay.write("play.yml", f"- {play}, {short}}}\n")
    apply = ("apply", "play.yml", "-i", lab.directory / "inventory.yml", "--yes")
    keyrelay(*apply).ended(2).line("PIN", "no terminal to ask on")
    keyrelay(*apply, "--pin-file", "pin").ended(0)
    (keyrelay.folder / "root.pem").write_text(shown["root"]["pem"], encoding="ascii")
    current = lab.directory / "hosts/server-01/keyrelay/server/current"
    chain = ("-x509_strict", "-CAfile", "root.pem", "-untrusted", f"{current}/chain.pem")
    assert openssl(keyrelay.folder, "verify", *chain, f"{current}/cert.pem").returncode == 0

    keyrelay.write("ahead.yml", f"- {play}, key: {{origin: controller}}, {short}}}\n")
    ahead = ("cert", "create", "ahead.yml", "-i", lab.directory / "inventory.yml", "--for", "server-01")
    key = keyrelay.json(*ahead)["id"]
    to_a_file = ("--private", "--plaintext", "--purpose", "no PIN is asked for", "-o", "key.pem")
    keyrelay("cert", "export", *to_a_file, key).ended(0)

    keyrelay("ca", "renew", "--pin-file", "pin").ended(0).line("renewed CN=keyrelay issuer")
    keyrelay("ca", "crl", "-o", "crl.pem", "--pin-file", "pin").ended(0).line("list 1")
    (keyrelay.folder / "issuer.pem").write_text(
        keyrelay.json("ca", "show")["issuer"]["pem"], encoding="ascii"
    )
    checked = openssl(keyrelay.folder, "crl", "-in", "crl.pem", "-CAfile", "issuer.pem", "-noout")
    assert "verify OK" in checked.stderr
    assert PIN not in "".join(terminal.said)
