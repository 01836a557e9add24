"""Stores of which one cannot be filled or emptied, and ways back that outlive a visit that was killed."""

import shutil
from pathlib import Path
from time import monotonic

import pytest

from orchestrator.keys.material import Algorithm, generate
from orchestrator.policy.stores import (
    Access,
    Holds,
    Java,
    Nss,
    PemAnchors,
    PemFiles,
    Pkcs12,
    Rendered,
    digest_of,
)
from orchestrator.rotation.reports import Failed, Refused
from orchestrator.rotation.visits import Disarm, Erase
from tests.integration.program import SHELLS_BY_TURNS, Machine, hook, random
from tests.integration.stores import (
    NEW,
    OLD,
    PASSWORD,
    PRIVATE,
    PUBLIC,
    Credential,
    agent_manifest,
    between,
    der,
    digests,
    facts,
    in_pkcs12,
    root,
    run,
    server_manifest,
    states,
    surveyed,
    trust,
    with_tools,
)


@pytest.fixture(params=SHELLS_BY_TURNS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "base", path=with_tools(tmp_path / "bin", request.param))


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


def test_a_file_without_end_in_the_place_of_a_store_holds_up_no_visit(machine: Machine, app: Path) -> None:
    manifest = server_manifest(
        PemFiles(key=f"{app}/tls.key", access=PRIVATE),
        PemFiles(certificate=f"{app}/tls.crt", access=PRIVATE),
        Pkcs12(file=f"{app}/store.p12", password_file=f"{app}/pass", alias="app", access=PRIVATE),
    )
    machine.report(OLD.stage, OLD.activate(manifest))
    for name in ("tls.key", "tls.crt", "store.p12"):
        with (app / name).open("r+b") as file:
            file.truncate(2**40)
    began = monotonic()
    told, _, _ = surveyed(machine)
    assert told is not None
    assert set(states(told).values()) == {"changed"}
    machine.report(NEW.stage)
    machine.report(NEW.activate(manifest))
    machine.report(Erase(credentials=(OLD.id,)))
    told, _, _ = surveyed(machine)
    assert told is not None
    assert set(states(told).values()) == {"intact"}
    assert monotonic() - began < 20


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


def use(machine: Machine, credential: Credential | None) -> None:
    """Switch the link alone, as a visit that was killed before it filled the stores."""
    current = machine.base / "server" / "current"
    current.unlink()
    if credential is not None:
        current.symlink_to(f"credentials/{credential.id}")


def everywhere(app: Path) -> str:
    """A manifest with a store of each kind that can hold a key, and others."""
    word, keystore = f"{app}/pass", f"{app}/keystore"
    return server_manifest(
        PemFiles(key=f"{app}/tls.key", access=PRIVATE),
        PemFiles(certificate=f"{app}/tls.crt", combined=f"{app}/tls.pem", access=PRIVATE),
        Pkcs12(file=f"{app}/p12", password_file=word, alias="app", access=PRIVATE),
        Java(keystore=keystore, password_file=word, alias="app", holds=Holds.CREDENTIAL, access=PRIVATE),
        Nss(database=f"{app}/nss", name="app", holds=Holds.CREDENTIAL),
        Rendered(file=f"{app}/conf", access=PUBLIC),
        PemFiles(fullchain=f"{app}/sub/tls.crt", access=PRIVATE),
        conf="listen 443\n",
    )


def entries(app: Path) -> tuple[str, str]:
    """What Java's keystore and NSS list."""
    keystore = run("keytool", "-list", "-keystore", app / "keystore", "-storepass:file", app / "pass")
    return keystore, run("certutil", "-K", "-d", f"sql:{app}/nss", accept=(0, 255))


def test_to_erase_a_key_leaves_the_stores_of_the_key_in_use_though_one_of_them_could_not_be_filled(
    machine: Machine, app: Path
) -> None:
    (app / "sub").mkdir(mode=0o755)
    manifest = everywhere(app)
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    machine.report(NEW.activate(manifest))
    shutil.rmtree(app / "sub")
    (app / "tls.key").unlink()
    assert isinstance(machine.run(NEW.activate(manifest)), Failed)
    held = facts(*(file for file in app.iterdir() if file.is_file()))

    assert machine.report(Erase(credentials=(OLD.id,))).changed
    assert facts(*(file for file in app.iterdir() if file.is_file())) == held
    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()
    keystore, database = entries(app)
    assert "app," in keystore
    assert "app" in database
    assert not machine.report(Erase(credentials=(OLD.id,))).changed
    told, _, _ = surveyed(machine)
    assert told is not None
    assert (told.digest, told.credential) == ("", NEW.id)
    assert states(told)[f"{app}/sub/tls.crt"] == "missing"
    (app / "p12").unlink()
    assert isinstance(machine.run(NEW.activate(manifest)), Failed)
    assert in_pkcs12(app / "p12", PASSWORD)[0] == der(NEW.pair)


def test_an_erased_key_goes_from_every_store_that_still_has_it_and_nothing_else_does(
    machine: Machine, app: Path
) -> None:
    (app / "sub").mkdir(mode=0o755)
    manifest = everywhere(app)
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    use(machine, NEW)
    (app / "tls.pem").write_bytes(NEW.pair.private.reveal())
    assert machine.report(Erase(credentials=(OLD.id,))).changed

    assert {file.name for file in app.iterdir()} == {
        *("nss", "pass", "unmanaged", "tls.crt", "tls.pem", "keystore", "conf", "sub")
    }
    keystore, database = entries(app)
    assert "app," not in keystore
    assert "app" not in database
    told, _, _ = surveyed(machine)
    assert told is not None
    assert (told.digest, told.credential) == ("", NEW.id)
    shutil.rmtree(app / "sub")
    outcome = machine.run(NEW.activate(manifest))
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith(
        f"the stores could not be filled: {app}/sub is missing, expected a folder"
    )
    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()
    assert in_pkcs12(app / "p12", PASSWORD)[0] == der(NEW.pair)
    (app / "sub").mkdir(mode=0o755)
    machine.report(NEW.activate(manifest))
    assert set(states(surveyed(machine)[0]).values()) == {"intact"}


def test_a_key_is_erased_though_a_store_that_may_have_it_cannot_be_read(machine: Machine, app: Path) -> None:
    manifest = everywhere(app)
    (app / "sub").mkdir(mode=0o755)
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    use(machine, NEW)
    (app / "pass").write_text("another word\n")
    for _ in range(2):
        outcome = machine.run(Erase(credentials=(OLD.id,)))
        assert outcome.kind in {"failed", "refused"}
        assert outcome.reason.startswith(
            f"the stores could not be emptied: keytool cannot read {app}/keystore: "
        )
        assert not (machine.base / "server" / "credentials" / OLD.id).exists()
        assert not {"tls.key", "tls.pem", "p12"} & {file.name for file in app.iterdir()}
        assert (app / "conf").exists()
    (app / "pass").write_text(f"{PASSWORD}\n")
    assert machine.report(Erase(credentials=(OLD.id,))).changed
    assert "app," not in entries(app)[0]


def test_somebody_elses_key_in_the_place_of_a_store_stays_there_while_another_is_erased(
    machine: Machine, app: Path
) -> None:
    manifest = server_manifest(PemFiles(key=f"{app}/tls.key", fullchain=f"{app}/tls.crt", access=PRIVATE))
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    use(machine, NEW)
    theirs = generate(Algorithm.ED25519, random=random).private.reveal()
    (app / "tls.key").write_bytes(theirs)
    assert machine.report(Erase(credentials=(OLD.id,))).changed
    assert (app / "tls.key").read_bytes() == theirs
    assert (app / "tls.crt").read_text() == OLD.chain_pem


def test_without_a_key_in_use_the_stores_are_emptied_though_somebody_else_has_put_something_there(
    machine: Machine, app: Path
) -> None:
    manifest = server_manifest(
        PemFiles(key=f"{app}/tls.key", fullchain=f"{app}/tls.crt", access=PRIVATE),
        Nss(database=f"{app}/nss", name="app", holds=Holds.CREDENTIAL),
    )
    machine.report(OLD.stage, OLD.activate(manifest))
    (app / "tls.key").write_text("the operator's key\n")
    reason = f"the stores could not be emptied: {app}/tls.key was changed by somebody else: move it away"
    outcome = machine.run(Disarm(in_use=None, credentials=(OLD.id,)))
    assert isinstance(outcome, Failed)
    assert outcome.reason == reason
    assert not (machine.base / "server" / "current").is_symlink()
    assert (machine.base / "server" / "disarmed" / OLD.id).exists()
    outcome = machine.run(Erase(credentials=(OLD.id,)))

    assert isinstance(outcome, Failed)
    assert outcome.reason == reason
    assert {file.name for file in app.iterdir()} == {"nss", "pass", "unmanaged", "tls.key"}
    assert (app / "tls.key").read_text() == "the operator's key\n"
    assert "app" not in run("certutil", "-L", "-d", f"sql:{app}/nss")
    assert not (machine.base / "server" / "disarmed" / OLD.id).exists()
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
