"""Stores of which one cannot be filled or emptied, and ways back that outlive a visit that was killed."""

import shutil
from pathlib import Path

import pytest

from orchestrator.policy.stores import Access, Holds, Java, Nss, PemAnchors, PemFiles, digest_of
from orchestrator.rotation.reports import Failed, Refused
from orchestrator.rotation.visits import Erase
from tests.integration.program import SHELLS_BY_TURNS, Machine, hook
from tests.integration.stores import (
    NEW,
    OLD,
    PASSWORD,
    PRIVATE,
    PUBLIC,
    agent_manifest,
    application,
    between,
    digests,
    root,
    run,
    server_manifest,
    states,
    surveyed,
    trust,
    with_tools,
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return application(tmp_path / "app")


@pytest.fixture(params=SHELLS_BY_TURNS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "base", path=with_tools(tmp_path / "bin", request.param))


@pytest.fixture
def dash(tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "base", path=with_tools(tmp_path / "bin", "dash"))


def kill(machine: Machine) -> str:
    """A command that ends the visit under way as nothing else can."""
    return f'read -r _ _ _ _ pid _ <{machine.base}/lock/owner && kill -9 "$pid"'


def test_a_visit_that_mends_fills_each_store_that_it_can_and_names_all_others(
    machine: Machine, app: Path
) -> None:
    (app / "gone").mkdir(mode=0o755)
    keystore = Java(
        keystore=f"{app}/keystore",
        password_file=f"{app}/pass",
        alias="app",
        holds=Holds.CREDENTIAL,
        access=PRIVATE,
    )
    manifest = server_manifest(
        PemFiles(key=f"{app}/tls.key", access=PRIVATE),
        PemFiles(certificate=f"{app}/gone/tls.crt", access=PRIVATE),
        keystore,
        Nss(database=f"{app}/nss", name="app", holds=Holds.CREDENTIAL),
        PemFiles(fullchain=f"{app}/tls.crt", access=PRIVATE),
    )
    machine.report(OLD.stage, OLD.activate(manifest))
    held = (app / "keystore").read_bytes()
    shutil.rmtree(app / "gone")
    (app / "pass").write_text("another word\n")
    (app / "tls.key").unlink()
    (app / "tls.crt").write_text("junk\n")
    run("certutil", "-D", "-d", f"sql:{app}/nss", "-n", "app")
    noted = hook(f"echo >>{app}/ran")
    outcome = machine.run(OLD.activate(manifest, hook=noted))

    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("the stores could not be filled: ")
    assert f"{app}/gone is missing, expected a folder" in outcome.reason
    assert f"keytool cannot read {app}/keystore: " in outcome.reason
    assert (app / "tls.key").read_bytes() == OLD.pair.private.reveal()
    assert (app / "tls.crt").read_text() == OLD.chain_pem
    assert (app / "keystore").read_bytes() == held
    assert "app" in run("certutil", "-L", "-d", f"sql:{app}/nss")
    outcome = machine.run(OLD.activate(manifest, hook=noted))
    assert isinstance(outcome, Refused)
    assert (app / "ran").read_text() == "\n"

    (app / "gone").mkdir(mode=0o755)
    (app / "pass").write_text(f"{PASSWORD}\n")
    machine.report(OLD.activate(manifest, hook=noted))
    told, _, _ = surveyed(machine)
    assert told is not None
    assert told.digest == digest_of(manifest)
    assert set(states(told).values()) == {"intact"}
    assert not list(app.glob(".keyrelay*"))
    machine.report(OLD.activate())
    assert {file.name for file in app.iterdir()} == {"nss", "pass", "unmanaged", "gone", "ran"}


def test_an_agent_that_is_mended_gets_the_anchors_that_it_can_get(machine: Machine, app: Path) -> None:
    (app / "gone").mkdir(mode=0o755)
    manifest = agent_manifest(
        PemAnchors(anchors=f"{app}/gone/ca.pem", access=PUBLIC),
        PemAnchors(anchors=f"{app}/ca.pem", access=PUBLIC),
    )
    machine.report(trust(manifest))
    shutil.rmtree(app / "gone")
    (app / "ca.pem").write_text("")
    outcome = machine.run(trust(manifest))

    assert isinstance(outcome, Failed)
    assert outcome.reason == (
        f"bundle 1.1 is in use, but the stores could not be filled: {app}/gone is missing, expected a folder"
    )
    assert digests((app / "ca.pem").read_text()) == digests(root(1).certificate.pem)
    (app / "ca.pem").write_text("")
    outcome = machine.run(trust(manifest, 2))
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("bundle 1.2 is in use, but ")
    assert digests((app / "ca.pem").read_text()) == digests(root(1).certificate.pem)
    (app / "gone").mkdir(mode=0o755)
    machine.report(trust(manifest, 2))
    assert set(states(surveyed(machine)[1]).values()) == {"intact"}


def test_a_key_is_erased_though_somebody_else_has_put_something_in_the_place_of_a_store(
    machine: Machine, app: Path
) -> None:
    manifest = server_manifest(
        PemFiles(key=f"{app}/tls.key", fullchain=f"{app}/tls.crt", access=PRIVATE),
        Nss(database=f"{app}/nss", name="app", holds=Holds.CREDENTIAL),
    )
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    (machine.base / "server" / "current").unlink()
    (machine.base / "server" / "current").symlink_to(f"credentials/{NEW.id}")
    (app / "tls.key").write_text("the operator's key\n")
    outcome = machine.run(Erase(credentials=(OLD.id,)))

    assert isinstance(outcome, Failed)
    assert outcome.reason == (
        f"the stores could not be emptied: {app}/tls.key was changed by somebody else: move it away"
    )
    assert {file.name for file in app.iterdir()} == {"nss", "pass", "unmanaged", "tls.key"}
    assert (app / "tls.key").read_text() == "the operator's key\n"
    assert "app" not in run("certutil", "-L", "-d", f"sql:{app}/nss")
    assert not (machine.base / "server" / "credentials" / OLD.id).exists()
    (app / "tls.key").rename(app / "mine")
    assert machine.report(Erase(credentials=(OLD.id,))).changed
    assert surveyed(machine)[0] is None
    assert not machine.report(Erase(credentials=(OLD.id,))).changed


def test_the_way_back_of_a_visit_that_was_killed_leads_to_the_stores_of_before(
    machine: Machine, app: Path
) -> None:
    one = server_manifest(PemFiles(key=f"{app}/tls.key", fullchain=f"{app}/tls.crt", access=PRIVATE))
    two = server_manifest(PemFiles(key=f"{app}/tls.key", chain=f"{app}/chain.pem", access=PRIVATE))
    machine.report(OLD.stage, NEW.stage, OLD.activate(one))
    for then in (NEW, OLD):
        for _ in range(2):
            machine.run(then.activate(two, hook=hook(kill(machine))))
            assert (app / "chain.pem").exists()
            assert not (app / "tls.crt").exists()
        outcome = machine.run(then.activate(two, hook=hook(f"test ! -e {app}/chain.pem")))

        assert isinstance(outcome, Failed)
        assert outcome.reason.startswith("the hook exited 1; ")
        assert (app / "tls.key").read_bytes() == OLD.pair.private.reveal()
        assert (app / "tls.crt").read_text() == OLD.chain_pem
        assert not (app / "chain.pem").exists()
        assert not (machine.base / "server" / "stores-before").exists()
    assert not machine.report(OLD.activate(one)).changed


def test_what_was_given_back_stays_theirs_though_the_visit_was_killed_then(
    dash: Machine, app: Path, tmp_path: Path
) -> None:
    theirs = "the operator's key"
    (app / "tls.key").write_text(f"{theirs}\n")
    adopts = PemFiles(key=f"{app}/tls.key", access=Access(mode="600", adopt=True))
    dash.report(OLD.stage)
    seen = f'read -r first <{app}/tls.key && [ "$first" = "{theirs}" ]'
    killed = between(
        dash,
        tmp_path / "shims",
        f'case "$0 $*" in "{tmp_path}/shims/sync {app}") {seen} && {kill(dash)};; esac',
    )
    assert isinstance(killed.run(OLD.activate(server_manifest(adopts), hook=hook("false"))), Failed)
    assert (app / "tls.key").read_text() == f"{theirs}\n"

    outcome = dash.run(OLD.activate(server_manifest(adopts), hook=hook("false")))
    assert isinstance(outcome, Failed)
    assert (app / "tls.key").read_text() == f"{theirs}\n"
    dash.report(OLD.activate())
    assert (app / "tls.key").read_text() == f"{theirs}\n"
    assert not list(app.glob(".keyrelay*"))
