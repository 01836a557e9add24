"""What commands say to programs and to people once a fleet has keys, and what can never be in it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from paramiko import Channel

from orchestrator.lab import Lab
from orchestrator.rotation.drift import MEANINGS, Drift
from tests.cli.terminal import Terminal, keys_in_use

MakeFleet = Callable[..., tuple[Terminal, Lab]]
INVENTORY = ("-i", "lab/inventory.yml")
SHARED = "playbooks/shared.yml"
PER_SERVER = "playbooks/per-server.yml"

pytestmark = pytest.mark.usefixtures("inside")

CREDENTIAL = {
    "id", "thumbprint", "spki_sha256", "algorithm", "origin", "playbook", "scope", "state", "state_since",
    "not_before", "not_after", "servers", "in_vault",
}  # fmt: skip
PLAN = {
    "playbook", "policy", "digest", "starts", "resumes", "renews_only", "reasons", "changes", "unreachable",
}  # fmt: skip


def test_every_answer_has_its_documented_shape_as_json(make_fleet: MakeFleet) -> None:
    keyrelay, _ = make_fleet(servers=2, agents=1)
    plan = keyrelay.json("plan", SHARED, *INVENTORY)["plays"][0]
    assert plan.keys() >= PLAN
    assert {tuple(sorted(change)) for change in plan["changes"]} == {("host", "role", "what", "why")}
    applied = keyrelay.json("apply", SHARED, *INVENTORY, "--plan", plan["digest"])["plays"][0]
    assert applied.keys() >= {
        "playbook", "result", "complete", "changed", "visits", "waits", "blocks", "unreachable", "plan",
    }  # fmt: skip
    assert (applied["result"], applied["complete"], len(applied["changed"])) == ("done", True, 3)

    key = keyrelay.json("cert", "list")["keys"][0]
    assert key.keys() >= CREDENTIAL
    shown = keyrelay.json("cert", "show", key["thumbprint"])
    assert shown.keys() >= CREDENTIAL | {"expires", "certificates"}
    assert [one["server"] for one in shown["certificates"]] == ["server-01", "server-02"]
    assert keyrelay.json("holders", key["id"][:8])["key"] == key
    assert keyrelay.json("holdings", "controller")["holdings"][0].keys() >= {
        "key", "credential", "host", "half", "standing", "since", "evidence",
    }  # fmt: skip
    due = json.loads(keyrelay("due", "--within", "400d", "--json").ended(4).out)["due"][0]
    assert due.keys() >= CREDENTIAL | {"due_at", "overdue", "ends_at"}
    rollout = keyrelay.json("rollout", "list")["rollouts"][0]
    of_rollout = keyrelay.json("rollout", "show", rollout["id"][:6])
    assert of_rollout.items() >= {**rollout, "steps": {}, "failing": []}.items()
    assert keyrelay.json("audit", *INVENTORY) == {
        "clean": True,
        "drifted": False,
        "unreachable": False,
        "counts": {"ok": 3},
        "first_use": [],
        "findings": [
            {"host": host, "drift": "ok", "meaning": MEANINGS[Drift.OK], "detail": MEANINGS[Drift.OK]}
            for host in ("agent-001", "server-01", "server-02")
        ],
    }
    proven = keyrelay.json("prove", *INVENTORY)
    assert (proven["holds"], proven["proven"], len(proven["edges"])) == (True, 2, 2)
    assert keyrelay.json("ledger", "verify").keys() == {"entries", "head"}
    compared = keyrelay.json("policy", "compare", SHARED, *INVENTORY)["plays"][0]
    assert [row["policy"] for row in compared["policies"]] == [
        "shared", "per-group", "per-server", "delegated",
    ]  # fmt: skip

    assert compared["measured"] is True
    status = keyrelay.json("lab", "status", "lab")
    assert [host["running"] for host in status["hosts"]] == [True, True, True]
    assert keyrelay.json("inventory", "check", *INVENTORY) == {
        "hosts": 3,
        "groups": 6,
        "problems": [],
        "notes": [],
    }
    assert [host["name"] for host in keyrelay.json("inventory", "list", *INVENTORY)["hosts"]] == [
        "server-01", "server-02", "agent-001",
    ]  # fmt: skip
    assert {"name": "servers", "children": [], "hosts": ["server-01", "server-02"]} in keyrelay.json(
        "inventory", "graph", *INVENTORY
    )["groups"]
    for kind in ("inventory", "playbook"):
        assert "$schema" in keyrelay.json("schema", kind)
    assert keyrelay.json("lab", "down", "lab")["ended"] == ["server-01", "server-02", "agent-001"]
    people = keyrelay("cert", "show", key["thumbprint"]).ended(0)
    people.line("state", "active: a server may sign with it")
    people.line("server-02", shown["certificates"][1]["sha256"])


def test_a_plan_that_has_changed_is_not_carried_out(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=2)
    digest = keyrelay.json("plan", SHARED, *INVENTORY)["plays"][0]["digest"]
    text = (keyrelay.folder / SHARED).read_text(encoding="utf-8")
    (keyrelay.folder / SHARED).write_text(
        text.replace("agents: agents", "agents: agent-001"), encoding="utf-8"
    )

    refused = keyrelay("apply", SHARED, *INVENTORY, "--plan", digest).ended(1)

    refused.line("error: the plan has changed")
    refused.line("hint: ", "keyrelay plan")
    assert keys_in_use(lab.directory / "hosts") == set()


def test_text_that_a_host_gives_is_shown_but_not_obeyed(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=1)
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)
    for name in ("[bold red]x", "\x1b[31mred\x1b]0;title\x07", "\u202egnp.exe", "a\rb"):
        (lab.host("server-01").base / "server" / "credentials" / name).mkdir(mode=0o700)

    for words in (("audit", *INVENTORY), ("--json", "audit", *INVENTORY), ("plan", SHARED, *INVENTORY)):
        said = keyrelay(*words)
        assert said.code in (0, 3, 4), said
        shown = said.out + said.err
        assert all(sign.isprintable() or sign == "\n" for sign in shown), repr(shown)
    keyrelay("audit", *INVENTORY).ended(4).line("server-01", "bad-permissions", "server/credentials")
    odd = keyrelay("-i", "\x1b[31m", "inventory", "check").ended(2)
    missing = keyrelay("inventory", "check", "-i", "\x1b[31m\u202e.yml").ended(2)
    missing.line("\\x1b[31m\\u202e.yml")
    assert "\x1b" not in odd.out + odd.err + missing.out + missing.err


def forms(key_file: Path) -> list[bytes]:
    """A private key in every form in which it could lie somewhere, whole or as its secret part alone."""
    pem = key_file.read_bytes()
    key = load_pem_private_key(pem, password=None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    body = b"".join(line for line in pem.splitlines() if not line.startswith(b"-----"))
    found = [body, der, raw]
    for secret in (raw, der):
        found += [secret.hex().encode(), secret.hex().upper().encode()]
        found += [base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")]
    # In base64 of a longer text the digits shift; those that depend on the secret alone are searched for.
    found += [base64.b64encode(b"x" * shift + raw)[4:-4] for shift in (1, 2)]
    return found


def key_files(lab: Lab) -> list[Path]:
    return sorted((lab.directory / "hosts").glob("server-*/keyrelay/server/current/key.pem"))


def test_a_key_made_on_its_server_is_in_no_file_of_the_controller_and_in_no_output(
    make_fleet: MakeFleet,
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=1)
    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    for words in (("cert", "list"), ("rollout", "show"), ("audit", *INVENTORY), ("prove", *INVENTORY)):
        keyrelay("--json", *words).ended(0)
        keyrelay("--debug", *words).ended(0)
    assert keyrelay.json("holdings", "controller")["holdings"] == []

    files = [path for path in keyrelay.folder.rglob("*") if path.is_file()]
    assert {path.name for path in files if ".keyrelay" in path.parts} >= {"keyrelay.db", "root.key"}
    kept = b"\0".join(path.read_bytes() for path in files) + "".join(keyrelay.said).encode()
    assert len(key_files(lab)) == 2
    for key_file in key_files(lab):
        assert [form for form in forms(key_file) if form in kept] == []


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> tuple[bytearray, bytearray]:
    """Every byte that is said to a host, and every byte that comes back, before SSH encrypts them."""
    sent, heard = bytearray(), bytearray()
    send, recv, recv_stderr = Channel.send, Channel.recv, Channel.recv_stderr

    def listen_send(self: Channel, data: bytes) -> int:
        count = send(self, data)
        sent.extend(data[:count])
        return count

    def listen_recv(self: Channel, nbytes: int) -> bytes:
        data = recv(self, nbytes)
        heard.extend(data)
        return data

    def listen_recv_stderr(self: Channel, nbytes: int) -> bytes:
        data = recv_stderr(self, nbytes)
        heard.extend(data)
        return data

    monkeypatch.setattr(Channel, "send", listen_send)
    monkeypatch.setattr(Channel, "recv", listen_recv)
    monkeypatch.setattr(Channel, "recv_stderr", listen_recv_stderr)
    return sent, heard


def test_a_key_made_on_its_server_never_crosses_the_wire(
    make_fleet: MakeFleet, wire: tuple[bytearray, bytearray]
) -> None:
    keyrelay, lab = make_fleet(servers=2, agents=1)
    sent, heard = wire
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)
    in_all_forms = forms(key_files(lab)[0])
    assert any(form in sent.replace(b"\n", b"") for form in in_all_forms), "the wire is listened to"
    sent.clear()
    heard.clear()

    keyrelay("apply", PER_SERVER, *INVENTORY, "--yes").ended(0)
    keyrelay("audit", *INVENTORY).ended(0)
    keyrelay("prove", *INVENTORY).ended(0)

    assert b"CERTIFICATE REQUEST" in heard
    for said in (sent, heard):
        whole = bytes(said) + said.replace(b"\n", b"")
        for key_file in key_files(lab):
            assert [form for form in forms(key_file) if form in whole] == []
    assert b"PRIVATE KEY" not in heard


def test_the_vault_seals_a_key_made_on_the_controller(make_fleet: MakeFleet) -> None:
    keyrelay, lab = make_fleet(servers=1, agents=1)
    keyrelay("apply", SHARED, *INVENTORY, "--yes").ended(0)
    assert keyrelay.json("holdings", "controller")["holdings"][0]["half"] == "private"
    kept = b"\0".join(path.read_bytes() for path in (keyrelay.folder / ".keyrelay").iterdir())
    kept += "".join(keyrelay.said).encode()
    assert [form for form in forms(key_files(lab)[0]) if form in kept] == []
