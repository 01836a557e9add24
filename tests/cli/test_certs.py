"""Keys made ahead, brought in, shown and taken out, on real hosts."""

import csv
import io
import stat
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.cli.machine import SystemClock
from orchestrator.keys.formats.contents import Format
from orchestrator.keys.formats.intake import take
from orchestrator.keys.formats.reading import read
from orchestrator.keys.formats.writing import write_private
from orchestrator.keys.material import Algorithm
from orchestrator.keys.secret import Secret
from orchestrator.lab import Lab
from tests.cli.terminal import Terminal, keys_in_use
from tests.fakes import SeededEntropy
from tests.key_files import certified

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PER_SERVER = "playbooks/per-server.yml"
FIRST = ("--for", "server-01")
PASSWORD = "correct horse battery"
NOW = SystemClock().now().replace(microsecond=0)


@pytest.fixture
def fleet(make_fleet: MakeFleet, inside: Terminal) -> tuple[Terminal, Lab]:
    """Two servers and two agents, nothing applied yet."""
    del inside
    keyrelay, lab = make_fleet(servers=2, agents=2)
    keyrelay.write("file.password", f"{PASSWORD}\n")
    change(keyrelay, "origin: server", "origin: controller")
    return keyrelay, lab


@pytest.fixture
def applied(fleet: tuple[Terminal, Lab]) -> tuple[Terminal, Lab]:
    keyrelay, lab = fleet
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    return keyrelay, lab


def change(keyrelay: Terminal, old: str, new: str) -> None:
    path = keyrelay.folder / PER_SERVER
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def key_of(keyrelay: Terminal, server: str) -> str:
    return str(keyrelay.json("holdings", server)["holdings"][0]["key"])


def bring(keyrelay: Terminal, name: str, algorithm: Algorithm, *names: str) -> str:
    """A PKCS #12 file with an existing key; gives the key's public half as openssl prints it."""
    made = certified(algorithm, *names, made_at=NOW)
    data = write_private(
        Format.PKCS12,
        made.pair,
        made.certificates,
        Secret(PASSWORD.encode()),
        name="old",
        random=SeededEntropy(),
    )
    (keyrelay.folder / name).write_bytes(data.reveal())
    return made.pair.public.pem


def test_an_existing_certificate_becomes_a_servers_through_the_handover(
    applied: tuple[Terminal, Lab],
) -> None:
    keyrelay, lab = applied
    before = key_of(keyrelay, "server-02")
    public = bring(keyrelay, "old.p12", Algorithm.ED25519, "server-01")
    locked = ("--password-file", "file.password")
    keyrelay("cert", "show", "old.p12", *locked).ended(0).line("CN=server-01", "Ed25519")
    shown = keyrelay("cert", "import", PER_SERVER, "old.p12", *INVENTORY, *FIRST, *locked).ended(0)
    shown.line("imported key", "server:server-01")
    assert public not in keys_in_use(lab.directory / "hosts")
    keyrelay("plan", PER_SERVER, *INVENTORY).ended(0).line("an imported key waits for it")
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    assert public in keys_in_use(lab.directory / "hosts")
    assert key_of(keyrelay, "server-02") == before
    assert keyrelay("prove", *INVENTORY).ended(0).out.startswith("every edge holds")
    assert keyrelay("audit", *INVENTORY).ended(0)
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0).line("nothing to do")


def test_what_cannot_be_imported_is_told_in_words(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, _ = fleet
    bring(keyrelay, "rsa.p12", Algorithm.RSA_3072, "server-01")
    bring(keyrelay, "other.p12", Algorithm.ED25519, "web-01")
    keyrelay.write("broken.pem", "-----BEGIN CERTIFICATE-----\nnothing\n")
    keyrelay.write("wrong.password", "another\n")
    right, wrong = ("--password-file", "file.password"), ("--password-file", "wrong.password")
    start = ("cert", "import", PER_SERVER, *INVENTORY, *FIRST)
    keyrelay(*start, "rsa.p12", *right).ended(1).line("the playbook asks for ed25519")
    keyrelay(*start, "other.p12", *right).ended(1).line("is for web-01; server:server-01 needs server-01")
    keyrelay(*start, "other.p12", *wrong).ended(1).line("other.p12: the password does not open the file")
    keyrelay(*start, "other.p12").ended(2).line("the passphrase of other.p12 is needed")
    keyrelay(*start, "broken.pem").ended(1).line("blocks of PEM that begin in the file: 1; whole ones: 0")
    keyrelay(*start, "rsa.p12", "other.p12", *right).ended(1).line(
        "rsa.p12, other.p12: found 2 private keys", "hold 1 private key and"
    )
    early = certified(Algorithm.ED25519, "server-01", made_at=NOW + timedelta(days=9))
    plain = write_private(
        Format.PEM, early.pair, early.certificates, None, name="early", random=SeededEntropy()
    )
    (keyrelay.folder / "early.pem").write_bytes(plain.reveal())
    keyrelay(*start, "early.pem").ended(1).line("early.pem: the certificate of", "is not yet valid")
    keyrelay("cert", "show", "early.pem").ended(1).line("wrong: the certificate of", "is not yet valid")
    keyrelay("cert", "show", "missing.pem").ended(2)
    keyrelay("backup", "make", "missing.backup", "--check").ended(2).line("there is no such file")
    keyrelay(*start, "missing.pem").ended(2).line("missing.pem: No such file")
    keyrelay(*start, "lab/inventory.yml").ended(1).line("in no format of keys that keyrelay reads")
    keyrelay("cert", "import", PER_SERVER, *INVENTORY, "--for", "nobody", "other.p12").ended(2).line(
        "no scope"
    )
    assert keyrelay.json("cert", "list")["keys"] == []
    keyrelay(*start, "other.p12", *right, "--recertify").ended(0).line("the playbook's issuer certifies it")
    (made,) = keyrelay.json("cert", "list")["keys"]
    assert (made["awaits"], made["imported"], made["state"]) == (True, True, "generated")
    keyrelay("cert", "drop", made["id"], "--reason", "a slip").ended(0).line("dropped key")


def test_a_key_is_made_ahead_and_exported_before_it_is_used(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, lab = fleet
    keyrelay("cert", "create", PER_SERVER, *INVENTORY, *FIRST).ended(0).line("made key", "server:server-01")
    (made,) = keyrelay.json("cert", "list")["keys"]
    out = ("--private", "-o", "ahead.pem", "--purpose", "a test", "--password-file", "file.password")
    keyrelay("cert", "export", made["id"], *out).ended(0)
    told = subprocess.run(
        ["openssl", "pkey", "-in", keyrelay.folder / "ahead.pem", "-pubout", "-passin", f"pass:{PASSWORD}"],
        check=True,
        capture_output=True,
        text=True,
    )
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    assert told.stdout in keys_in_use(lab.directory / "hosts")


def test_an_exported_key_is_encrypted_recorded_and_never_written_by_surprise(
    applied: tuple[Terminal, Lab],
) -> None:
    keyrelay, _ = applied
    key = key_of(keyrelay, "server-01")
    file = keyrelay.folder / "key.p12"
    form = ("--format", "pkcs12", "--private", "--password-file", "file.password")
    keyrelay("cert", "export", *form, "--purpose", "the balancer", "--", key).ended(2).line(
        "--output is missing"
    )
    keyrelay("cert", "export", *form, "-o", "key.p12", "--", key).ended(2).line("--purpose is missing")
    assert "outside" not in keyrelay("holders", "--", key).ended(0).out
    asked = ("--purpose", "the balancer", "-o", "key.p12")
    said = keyrelay("cert", "export", *form, *asked, "--", key).ended(0)
    said.line("under its password")
    said.line("NSS and Windows read no ed25519 key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    taken = take([read(file.read_bytes(), Secret(PASSWORD.encode()))], at=SystemClock().now())
    assert taken.pair.public.thumbprint == key
    assert taken.chain is not None
    keyrelay("holders", "--", key).ended(0).line("outside", "key.p12: the balancer")

    before = file.read_bytes()
    keyrelay("cert", "export", *form, *asked, "--", key).ended(2).line("key.p12 is there already")
    (keyrelay.folder / "link.p12").symlink_to(file)
    linked = ("--purpose", "the balancer", "-o", "link.p12", "--replace")
    keyrelay("cert", "export", *form, *linked, "--", key).ended(2).line("is no plain file")
    keyrelay("cert", "export", *form, "--purpose", "x", "-o", "/dev/tty", "--replace", "--", key).ended(2)
    assert file.read_bytes() == before
    keyrelay("cert", "export", *form, *asked, "--replace", "--", key).ended(0)
    assert file.read_bytes() != before

    keyrelay("cert", "gone", "--reason", "shredded", "--", key, "key.p12").ended(0)
    assert "outside" not in keyrelay("holders", "--", key).ended(0).out
    keyrelay("ledger", "verify").ended(0)
    text = "".join(keyrelay.said)
    assert PASSWORD not in text
    assert "PRIVATE KEY" not in text


def test_windows_is_given_a_container_and_a_script_that_replaces_the_generation_before(
    fleet: tuple[Terminal, Lab],
) -> None:
    keyrelay, _ = fleet
    start = ("cert", "export", "--private", "--windows", "kit", "--password-file", "file.password")
    asked = (*start, "--purpose", "an IIS", "--")
    keyrelay("cert", "create", PER_SERVER, *INVENTORY, *FIRST).ended(0)
    (edwards,) = keyrelay.json("cert", "list")["keys"]
    keyrelay(*asked, edwards["id"]).ended(2).line("--server is missing")
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    first = key_of(keyrelay, "server-01")
    keyrelay(*asked, first).ended(1).line("Windows imports no ed25519 key")
    assert "outside" not in keyrelay("holders", "--", first).ended(0).out

    change(keyrelay, "ed25519", "ecdsa-p256")
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    key = key_of(keyrelay, "server-01")
    keyrelay(*start, "--", key).ended(2).line("--purpose is missing")
    keyrelay(*start, "--plaintext", "--purpose", "x", "--", key).ended(2).line("does not go with --plaintext")
    keyrelay("cert", "export", "--windows", "kit", "--", key).ended(2).line("does not go with no --private")
    keyrelay(*asked, key).ended(0)

    folder = keyrelay.folder / "kit"
    (container,) = folder.glob("keyrelay-*.pfx")
    keyrelay("holders", "--", key).ended(0).line("outside", container.name)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    opened = openssl("pkcs12", "-in", container, "-info", "-nokeys", "-passin", f"pass:{PASSWORD}")
    assert opened.count("BEGIN CERTIFICATE") == 1
    previous = openssl("x509", "-fingerprint", "-sha1", "-noout", given=exported(keyrelay, first))
    own = openssl("x509", "-fingerprint", "-sha1", "-noout", given=exported(keyrelay, key))
    script = (folder / "import.ps1").read_text(encoding="ascii")
    assert f"$thumbprint = '{hex_of(own)}'" in script
    assert f"$previous = @('{hex_of(previous)}')" in script
    keyrelay(*asked, key).ended(2).line("kit is there already")


def exported(keyrelay: Terminal, key: str) -> str:
    return keyrelay("cert", "export", "--", key).ended(0).out


def openssl(*arguments: str | Path, given: str = "") -> str:
    done = subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True, text=True)
    return done.stdout


def hex_of(fingerprint: str) -> str:
    return fingerprint.strip().partition("=")[2].replace(":", "")


def test_a_key_leaves_in_the_clear_only_if_that_is_said(applied: tuple[Terminal, Lab]) -> None:
    keyrelay, _ = applied
    key = key_of(keyrelay, "server-01")
    start = ("cert", "export", "--private", "--purpose", "a test", "-o", "key.pem")
    keyrelay(*start, "--", key).ended(2).line("the passphrase of the exported file is needed")
    keyrelay(*start, "--plaintext", "--", key).ended(0).line("in the clear")
    assert b"BEGIN PRIVATE KEY" in (keyrelay.folder / "key.pem").read_bytes()


def test_a_playbook_can_forbid_the_export(fleet: tuple[Terminal, Lab]) -> None:
    keyrelay, _ = fleet
    change(keyrelay, "origin: controller", "origin: controller, exportable: no")
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    key = key_of(keyrelay, "server-01")
    start = ("cert", "export", "--private", "--purpose", "a test", "--plaintext", "-o", "key.pem", "--", key)
    keyrelay(*start).ended(1).line("exportable: no")
    assert not (keyrelay.folder / "key.pem").exists()
    assert "outside" not in keyrelay("holders", "--", key).ended(0).out


@pytest.mark.parametrize("form", ["pem", "jwk", "jwks", "openssh", "der"])
def test_a_public_key_is_printed_or_written(form: str, applied: tuple[Terminal, Lab]) -> None:
    keyrelay, _ = applied
    key = key_of(keyrelay, "server-01")
    if form != "der":
        said = keyrelay("cert", "export", "--format", form, "--", key).ended(0)
        assert len(read(said.out.encode())) >= 1
    keyrelay("cert", "export", "--format", form, "-o", "public", "--", key).ended(0)
    contents = read((keyrelay.folder / "public").read_bytes())
    assert not contents.privates
    found = [*contents.publics, *(one.key for one in contents.certificates)]
    assert found[0].public.thumbprint == key
    assert "outside" not in keyrelay("holders", "--", key).ended(0).out


def test_keys_are_listed_for_people_programs_and_spreadsheets(applied: tuple[Terminal, Lab]) -> None:
    keyrelay, _ = applied
    rows = list(csv.DictReader(io.StringIO(keyrelay("cert", "list", "--csv").ended(0).out)))
    assert [row["servers"] for row in rows] == ["server-01", "server-02"]
    assert {row["private half"] for row in rows} == {"2 holders"}
    keyrelay("cert", "list", "-o", "keys.csv").ended(0)
    keyrelay("cert", "list", "--json", "-o", "keys.json").ended(0)
    assert (keyrelay.folder / "keys.csv").read_text(encoding="utf-8").startswith("key,playbook,scope,state")
    assert key_of(keyrelay, "server-01") in (keyrelay.folder / "keys.json").read_text(encoding="utf-8")
    keyrelay("cert", "list", "-o", "keys.csv").ended(2).line("is there already")


def test_agents_whose_key_is_not_the_servers_are_listed(applied: tuple[Terminal, Lab]) -> None:
    keyrelay, lab = applied
    right = key_of(keyrelay, "server-01")
    keyrelay("cert", "list", "--mismatched").ended(0).line("every agent trusts", "by the ledger")
    keyrelay("cert", "list", "--mismatched", *INVENTORY).ended(0).line(
        "every agent trusts", "what the hosts hold"
    )
    edges = next((lab.directory / "hosts/agent-001/keyrelay/agent/current").resolve().glob("edges"))
    edges.write_text(
        "".join(line for line in edges.read_text().splitlines(keepends=True) if "server-01" not in line)
    )
    lab.stop("agent-002")
    found = keyrelay("--json", "cert", "list", "--mismatched", *INVENTORY).ended(0).json
    assert found["mismatched"] == [
        {"agent": "agent-001", "server": "server-01", "uses": [right], "trusts": []}
    ]
    assert list(found["unknown"]) == ["agent-002"]
    keyrelay("cert", "list", "--mismatched", *INVENTORY, "-o", "wrong.csv").ended(0)
    text = (keyrelay.folder / "wrong.csv").read_text(encoding="utf-8")
    assert "agent-001,server-01" in text
    keyrelay("cert", "list", "--mismatched").ended(0).line("by the ledger")
