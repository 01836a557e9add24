"""Stores on real hosts: filled, rotated, mended and emptied by `install:`, beside what others put there."""

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from orchestrator.lab import Lab
from tests.cli.terminal import Terminal

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
PLAYBOOK = "playbooks/stores.yml"
APPLY = ("apply", PLAYBOOK, *INVENTORY, "--yes")
PLAY = """\
- name: Stores
  servers: servers
  agents: agents
  policy: per-server
  key: {{algorithm: ecdsa-p256, origin: {origin}}}
  messages: {{validity: 1s, clock_skew: 1s}}
  rollout: {{soak: 0s}}
  hooks:
    activated: |
      [ ! -e {folder}/stop ] && openssl x509 -in {folder}/tls/crt -noout -serial >>{folder}/reloads
  install:
"""
WORD = "correct horse"


def run(*command: str | Path, given: bytes = b"") -> bytes:
    return subprocess.run(command, check=True, capture_output=True, input=given, timeout=120).stdout


def fingerprint(certificate: bytes) -> str:
    """The SHA-256 of the DER of the first certificate of PEM."""
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    return hashlib.sha256(der).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What programs on the hosts find in their stores, each seen with a tool of its own.

    Attributes:
        folder: where the stores of all hosts are.
    """

    folder: Path

    def prepare(self) -> None:
        """What the administrator has made: folders, databases, passwords, and entries of others."""
        for name in ("tls", "database", "roots"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "tls" / "theirs").write_text("somebody else's\n")
        (self.folder / "word").write_text(WORD)
        (self.folder / "word").chmod(0o600)
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "9",
            "-keyout", self.folder / "other.key", "-out", self.folder / "other.crt")  # fmt: skip
        for name in ("database", "roots"):
            database = f"sql:{self.folder / name}"
            run("certutil", "-N", "-d", database, "--empty-password")
            run("certutil", "-A", "-d", database, "-n", "other", "-t", ",,", "-i", self.folder / "other.crt")
        run("keytool", "-importcert", "-noprompt", "-alias", "other", "-file", self.folder / "other.crt",
            "-keystore", self.folder / "keystore", "-storetype", "PKCS12", "-storepass", WORD)  # fmt: skip

    def entries(self) -> dict[str, str]:
        """The entries of ``install``, by what they are."""
        at, word = self.folder, f"password_file: {self.folder}/word"
        return {
            "pem": f'{{store: pem, key: {at}/tls/key, certificate: {at}/tls/crt, mode: "0640"}}',
            "combined": f"{{store: pem, combined: {at}/tls/both}}",
            "pkcs12": f"{{store: pkcs12, file: {at}/tls/p12, password_file: {at}/tls/p12.word}}",
            "nss": f"{{store: nss, database: {at}/database}}",
            "java": f"{{store: java, keystore: {at}/keystore, {word}}}",
            "template": f"{{store: template, template: app.j2, file: {at}/tls/conf, hosts: servers}}",
            "anchors": f"{{store: pem, anchors: {at}/tls/ca.pem}}",
            "nss anchors": f"{{store: nss, database: {at}/roots, holds: anchors, name: ours}}",
            "java anchors": f"{{store: java, keystore: {at}/keystore, {word}, holds: anchors, alias: roots}}",
        }

    def in_pkcs12(self) -> str:
        """The certificate in the file of PKCS#12, whose key fits it."""
        word = (self.folder / "tls" / "p12.word").read_bytes().strip()
        found = load_pkcs12((self.folder / "tls" / "p12").read_bytes(), word)
        assert found.key is not None
        assert found.cert is not None
        assert found.key.public_key() == found.cert.certificate.public_key()
        return hashlib.sha256(found.cert.certificate.public_bytes(Encoding.DER)).hexdigest()

    def in_combined(self) -> str:
        """The certificate in the file of PEM that openssl finds both in; the key fits it."""
        both = self.folder / "tls" / "both"
        of_key = run("openssl", "pkey", "-in", both, "-pubout")
        assert run("openssl", "x509", "-in", both, "-noout", "-pubkey") == of_key
        assert both.stat().st_mode & 0o777 == 0o600
        return fingerprint(run("openssl", "x509", "-in", both))

    def in_nss(self, database: str = "database") -> dict[str, str]:
        """The certificates in a database, by nickname."""
        where = ("-d", f"sql:{self.folder / database}")
        names = [
            line.rpartition(" ")[0].split("  ")[0]
            for line in run("certutil", "-L", *where).decode().splitlines()[4:]
        ]
        return {name: fingerprint(run("certutil", "-L", *where, "-n", name, "-a")) for name in names if name}

    def in_java(self) -> dict[str, str]:
        """The certificates in the keystore, by alias."""
        where = ("-keystore", str(self.folder / "keystore"), "-storepass", WORD)
        told = run("keytool", "-list", *where).decode().splitlines()
        names = [line.partition(",")[0] for line in told if "Entry," in line]
        return {
            name: fingerprint(run("keytool", "-exportcert", "-rfc", *where, "-alias", name)) for name in names
        }

    def of_others(self) -> tuple[object, ...]:
        """What was there before keyrelay."""
        tls, others = self.folder / "tls" / "theirs", fingerprint((self.folder / "other.crt").read_bytes())
        assert self.in_nss()["other"] == self.in_nss("roots")["other"] == self.in_java()["other"] == others
        return (
            tls.read_text(),
            tls.stat().st_mtime_ns,
            tls.stat().st_mode,
            (self.folder / "word").read_text(),
        )

    def reloads(self) -> list[str]:
        """The serial numbers of the certificates that the hook found in the store."""
        return (self.folder / "reloads").read_text().splitlines()

    def hold(self, server: str, root: str) -> None:
        """Insist on one certificate in all of a server's stores, and on one root in all of an agent's."""
        begin = root[:16]
        assert fingerprint((self.folder / "tls" / "crt").read_bytes()) == server
        assert self.in_pkcs12() == self.in_combined() == server
        assert self.in_nss().items() >= {"keyrelay": server}.items()
        assert self.in_java().items() >= {"keyrelay": server, f"roots-{begin}": root}.items()
        assert self.in_nss("roots").items() >= {f"ours-{begin}": root}.items()
        assert fingerprint((self.folder / "tls" / "ca.pem").read_bytes()) == root


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    programs = Programs(folder=tmp_path / "programs")
    programs.prepare()
    return programs


def write_play(keyrelay: Terminal, programs: Programs, *left_out: str, origin: str = "controller") -> None:
    entries = "".join(f"    - {text}\n" for name, text in programs.entries().items() if name not in left_out)
    keyrelay.write("playbooks/app.j2", "name {{ inventory_hostname }}\nkey {{ keyrelay_base }}/k\n")
    keyrelay.write(PLAYBOOK, PLAY.format(folder=programs.folder, origin=origin) + entries)


def in_use(lab: Lab) -> str:
    return fingerprint((lab.host("server-01").base / "server" / "current" / "cert.pem").read_bytes())


def root_of(keyrelay: Terminal) -> str:
    return str(keyrelay.json("ca", "show")["root"]["sha256"]).lower().replace(":", "")


@pytest.mark.parametrize("origin", [pytest.param("controller", marks=pytest.mark.long), "server"])
def test_every_kind_of_store_follows_the_key_and_is_mended_and_emptied(
    make_fleet: MakeFleet, inside: Terminal, programs: Programs, origin: str
) -> None:
    del inside
    keyrelay, lab = make_fleet(servers=1, agents=1)
    others, root = programs.of_others(), root_of(keyrelay)
    write_play(keyrelay, programs, origin=origin)

    keyrelay("plan", PLAYBOOK, *INVENTORY).ended(0).line(f"{programs.folder}/tls/key")
    keyrelay(*APPLY).ended(0)
    programs.hold(in_use(lab), root)
    assert (programs.folder / "tls" / "key").stat().st_mode & 0o777 == 0o640
    config = f"name server-01\nkey {lab.host('server-01').base}/k\n"
    assert (programs.folder / "tls" / "conf").read_text() == config
    assert len(programs.reloads()) == 1
    assert keyrelay("audit", *INVENTORY).ended(0).out == "2 hosts ok\n"
    keyrelay(*APPLY).ended(0).line("nothing to do")
    (held,) = (one for one in keyrelay.json("holdings", "server-01")["holdings"] if one["half"] == "private")
    assert f"{programs.folder}/keystore keyrelay" in held["stores"]

    before = in_use(lab)
    keyrelay(*APPLY, "--new-key").ended(0)
    assert in_use(lab) != before
    programs.hold(in_use(lab), root)
    assert len(set(programs.reloads())) == 2
    keyrelay("audit", *INVENTORY).ended(0)

    (programs.folder / "tls" / "p12").unlink()
    (programs.folder / "tls" / "key").write_text("junk\n")
    (programs.folder / "tls" / "crt").chmod(0o666)
    run(
        "keytool",
        "-delete",
        "-alias",
        "keyrelay",
        "-keystore",
        programs.folder / "keystore",
        "-storepass",
        WORD,
    )
    audit = keyrelay("audit", *INVENTORY).ended(4)
    audit.line("server-01", "bad-permissions")
    told = {(one["drift"], one["detail"]) for one in keyrelay("--json", "audit", *INVENTORY).json["findings"]}
    at = programs.folder
    assert ("missing", f"what was put into {at}/tls/p12 is gone") in told
    assert ("missing", f"what was put into {at}/keystore keyrelay is gone") in told
    assert ("mismatch", f"{at}/tls/key holds something else than was put there") in told
    keyrelay(*APPLY).ended(0)
    programs.hold(in_use(lab), root)
    keyrelay("audit", *INVENTORY).ended(0)

    write_play(keyrelay, programs, "combined", "pkcs12", "nss", "java anchors", origin=origin)
    plan = keyrelay("plan", PLAYBOOK, *INVENTORY).ended(0)
    plan.line("server-01", "empties", f"{at}/database keyrelay")
    assert all(place in plan.out for place in (f"{at}/tls/both", f"{at}/tls/p12"))
    assert f"empties {at}/keystore roots-{root[:16]}" in plan.out
    keyrelay(*APPLY).ended(0)
    assert not any((at / "tls" / name).exists() for name in ("p12", "p12.word", "both"))
    assert programs.in_nss().keys() == {"other"}
    assert programs.in_java().keys() == {"other", "keyrelay"}
    keyrelay("audit", *INVENTORY).ended(0)

    write_play(keyrelay, programs, *programs.entries().keys() - {"pem"}, origin=origin)
    keyrelay("remove", "agent-001", "--yes").ended(0)
    assert programs.in_nss("roots").keys() == {"other"}
    assert sorted(path.name for path in (at / "tls").glob("*.pem")) == []
    assert programs.of_others() == others


def test_a_server_that_cannot_fill_a_store_or_whose_hook_fails_keeps_its_key_and_its_stores(
    make_fleet: MakeFleet, inside: Terminal, programs: Programs
) -> None:
    del inside
    keyrelay, lab = make_fleet(servers=1, agents=1)
    write_play(keyrelay, programs, "nss", "nss anchors")
    keyrelay(*APPLY).ended(0)
    before, word = in_use(lab), programs.folder / "word"

    word.write_text("another one")
    (programs.folder / "tls" / "p12").unlink()
    (programs.folder / "tls" / "ca.pem").unlink()
    mended = keyrelay(*APPLY).ended(3)
    mended.line("server-01", "the stores could not be filled", f"{programs.folder}/keystore")
    assert programs.in_pkcs12() == before
    assert fingerprint((programs.folder / "tls" / "ca.pem").read_bytes()) == root_of(keyrelay)
    told = f"cannot fill {programs.folder}/keystore keyrelay: keytool cannot read {programs.folder}/keystore"
    keyrelay("audit", *INVENTORY).ended(4).line("server-01", "obstructed", told)
    (plan,) = keyrelay.json("plan", PLAYBOOK, *INVENTORY, "--new-key")["plays"]
    (server,) = (change for change in plan["changes"] if change["host"] == "server-01")
    assert server["what"] == ["is left as it is"]
    assert told in server["why"]
    keyrelay(*APPLY, "--new-key").ended(3).line("server-01", told)
    word.write_text(WORD)
    assert (in_use(lab), programs.in_pkcs12(), programs.in_java()["keyrelay"]) == (before, before, before)

    (programs.folder / "stop").touch()
    keyrelay(*APPLY).ended(3).line("server-01", "the hook exited 1; back on")
    assert (in_use(lab), programs.in_pkcs12(), programs.in_java()["keyrelay"]) == (before, before, before)


def test_a_file_of_somebody_else_is_refused_until_it_may_be_adopted(
    make_fleet: MakeFleet, inside: Terminal, programs: Programs
) -> None:
    del inside
    keyrelay, lab = make_fleet(servers=1, agents=1)
    only = programs.entries().keys() - {"pem"}
    (programs.folder / "tls" / "crt").write_text("theirs\n")
    write_play(keyrelay, programs, *only)
    refused = keyrelay(*APPLY).ended(3)
    refused.line("server-01", f"{programs.folder}/tls/crt is there and is not keyrelay's")
    assert (programs.folder / "tls" / "crt").read_text() == "theirs\n"
    assert not (programs.folder / "tls" / "key").exists()

    play = keyrelay.folder / PLAYBOOK
    play.write_text(play.read_text().replace("mode:", "adopt: yes, mode:"))
    keyrelay(*APPLY).ended(0)
    assert fingerprint((programs.folder / "tls" / "crt").read_bytes()) == in_use(lab)
