"""What a survey says of stores that could not be filled, before anything is tried; it changes nothing."""

import os
from pathlib import Path

import pytest

from orchestrator.policy.stores import Access, Holds, Java, Nss, PemAnchors, PemFiles, Pkcs12, Store, System
from orchestrator.rotation.reports import Refused, Surveyed
from orchestrator.rotation.visits import Survey
from tests.integration.program import SHELLS_BY_TURNS, Machine
from tests.integration.stores import (
    NEW,
    OLD,
    PASSWORD,
    PRIVATE,
    PUBLIC,
    agent_manifest,
    run,
    server_manifest,
    trust,
    with_tools,
)


@pytest.fixture(params=SHELLS_BY_TURNS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "base", path=with_tools(tmp_path / "bin", request.param))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of an application, with an NSS database and a keystore under a password."""
    folder = tmp_path / "app"
    (folder / "nss").mkdir(parents=True)
    for one in (folder, folder / "nss"):
        one.chmod(0o755)
    (folder / "pass").write_text(f"{PASSWORD}\n")
    (folder / "pass").chmod(0o600)
    run("certutil", "-N", "-d", f"sql:{folder}/nss", "-f", folder / "pass")
    new = ("-genkeypair", "-keyalg", "EC", "-dname", "CN=theirs", "-alias", "theirs")
    run("keytool", *new, "-keystore", folder / "keystore", "-storepass:file", folder / "pass")
    return folder


def obstacles(machine: Machine, *server: Store, agent: tuple[Store, ...] = ()) -> list[tuple[str, str, str]]:
    """What keeps stores from being filled, as what, where and why; the survey has changed nothing."""
    order = Survey(
        server_stores=server_manifest(*server) if server else "",
        agent_stores=agent_manifest(*agent) if agent else "",
    )
    before = machine.files() if machine.base.exists() else {}
    report = machine.report(order)
    assert isinstance(report, Surveyed)
    assert (machine.files() if machine.base.exists() else {}) == before
    return [(one.role, one.place, one.reason) for one in report.survey.obstacles]


def every_kind(app: Path, **access: str) -> tuple[Store, ...]:
    rights = Access(mode="600", **access)  # type: ignore[arg-type]  # owner or group
    word = f"{app}/pass"
    return (
        PemFiles(key=f"{app}/tls.key", fullchain=f"{app}/tls.crt", access=rights),
        Pkcs12(file=f"{app}/server.p12", password_file=word, alias="app", access=rights),
        Java(
            keystore=f"{app}/keystore", password_file=word, alias="app", holds=Holds.CREDENTIAL, access=rights
        ),
        Nss(database=f"{app}/nss", name="app", password_file=word, holds=Holds.CREDENTIAL),
    )


def anchors_of(app: Path) -> tuple[Store, ...]:
    word = f"{app}/pass"
    return (
        PemAnchors(anchors=f"{app}/ca.pem", access=PUBLIC),
        Java(keystore=f"{app}/keystore", password_file=word, alias="ca", holds=Holds.ANCHORS, access=PUBLIC),
        Nss(database=f"{app}/nss", name="ca", password_file=word, holds=Holds.ANCHORS),
    )


def one_key(app: Path, **access: object) -> PemFiles:
    rights = {"mode": "600", **access}
    return PemFiles(key=f"{app}/tls.key", access=Access(**rights))  # type: ignore[arg-type]  # the test names Access's own arguments


def test_a_host_that_can_fill_its_stores_says_nothing_before_and_after(machine: Machine, app: Path) -> None:
    stores, anchors = every_kind(app), anchors_of(app)
    there = {file.name for file in app.iterdir()}
    assert obstacles(machine, *stores, agent=anchors) == []
    assert {file.name for file in app.iterdir()} == there
    machine.report(OLD.stage, OLD.activate(server_manifest(*stores)))
    machine.report(trust(agent_manifest(*anchors)))
    assert obstacles(machine, *stores, agent=anchors) == []


def test_it_says_what_the_switch_would_be_refused_with(machine: Machine, app: Path) -> None:
    machine.report(OLD.stage, NEW.stage, OLD.activate())
    (app / "tls.key").write_text("precious\n")
    for store in (
        one_key(app),
        one_key(app / "none"),
        one_key(app / "pass"),
        one_key(app, adopt=True, owner="no-such-user"),
        one_key(app, adopt=True, group="no-such-group"),
    ):
        ((role, place, reason),) = obstacles(machine, store)
        outcome = machine.run(NEW.activate(server_manifest(store)))
        assert isinstance(outcome, Refused), outcome
        assert (role, place, reason) == ("server", store.key, outcome.reason)
    assert obstacles(machine, one_key(app, adopt=True)) == []
    assert (app / "tls.key").read_text() == "precious\n"


def test_every_file_of_a_store_is_named(machine: Machine, app: Path) -> None:
    gone = app / "none"
    store = PemFiles(key=f"{gone}/key", certificate=f"{gone}/crt", chain=f"{app}/chain", access=PRIVATE)
    missing = f"{gone} is missing, expected a folder"
    assert obstacles(machine, store) == [
        ("server", f"{gone}/crt", missing),
        ("server", f"{gone}/key", missing),
    ]


def test_a_password_that_is_wrong_or_missing_is_told_for_each_store_it_should_open(
    machine: Machine, app: Path
) -> None:
    (app / "pass").write_text("another one\n")
    told = {place: reason for _, place, reason in obstacles(machine, *every_kind(app), agent=anchors_of(app))}
    assert told.keys() == {f"{app}/keystore app", f"{app}/keystore ca", f"{app}/nss app", f"{app}/nss ca"}
    assert told[f"{app}/keystore app"].startswith(f"keytool cannot read {app}/keystore: ")
    assert told[f"{app}/nss ca"].startswith(f"certutil cannot open the NSS database {app}/nss: ")
    (app / "pass").unlink()
    told = {place: reason for _, place, reason in obstacles(machine, *every_kind(app), agent=anchors_of(app))}
    assert told[f"{app}/nss app"] == told[f"{app}/nss ca"] == f"there is no password in {app}/pass"
    wanted = f"there is no password in {app}/pass, by which {app}/keystore could be opened"
    assert told[f"{app}/keystore app"] == told[f"{app}/keystore ca"] == wanted
    assert PASSWORD not in machine.answer.decode()


def test_an_entry_of_somebody_else_is_told(machine: Machine, app: Path) -> None:
    word = f"{app}/pass"
    store = Java(
        keystore=f"{app}/keystore",
        password_file=word,
        alias="theirs",
        holds=Holds.CREDENTIAL,
        access=PRIVATE,
    )
    ((_, place, reason),) = obstacles(machine, store)
    assert place == f"{app}/keystore theirs"
    assert reason.startswith(f"the entry theirs in {app}/keystore is not keyrelay's")


@pytest.mark.parametrize(
    ("tool", "place"),
    [("keytool", "keystore app"), ("certutil", "nss app"), ("pk12util", "nss app")],
)
def test_a_tool_that_is_missing_is_named(machine: Machine, app: Path, tool: str, place: str) -> None:
    (machine.path / tool).unlink()
    ((_, found, reason),) = obstacles(machine, *every_kind(app))
    assert found == f"{app}/{place}"
    assert reason.startswith(f"{tool} is not installed: a store of kind ")


def test_a_system_without_a_tool_for_its_trust_is_told(machine: Machine) -> None:
    if Path("/usr/sbin/update-ca-certificates").exists():
        assert obstacles(machine, agent=(System(name="ours"),)) == []
        return
    ((_, place, reason),) = obstacles(machine, agent=(System(name="ours"),))
    assert place == "system ours"
    assert reason.startswith("neither update-ca-certificates nor update-ca-trust is installed")


def test_an_openssl_that_makes_no_pkcs12_is_told(machine: Machine, app: Path) -> None:
    openssl = (machine.path / "openssl").resolve()
    (machine.path / "openssl").unlink()
    refuse = 'case $1 in pkcs12) echo "pkcs12: unsupported" >&2; exit 1 ;; esac'
    (machine.path / "openssl").write_text(f'#!/bin/dash\n{refuse}\nexec {openssl} "$@"\n')
    (machine.path / "openssl").chmod(0o755)
    told = obstacles(machine, *every_kind(app), agent=anchors_of(app))
    reasons = {place: reason for _, place, reason in told}
    assert reasons == dict.fromkeys(
        (f"{app}/server.p12", f"{app}/keystore app", f"{app}/nss app"),
        "openssl cannot make a PKCS #12 file: unsupported",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder away")
def test_a_folder_of_somebody_elses_is_told(machine: Machine, app: Path) -> None:
    os.chown(app, 12345, -1)
    ((_, _, reason),) = obstacles(machine, one_key(app))
    assert reason == f"{app} has owner 12345, expected root or the managing user as owner"
