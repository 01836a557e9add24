"""Stores and visits that go wrong half-way: killed at any step, on a full disk, and what could leak."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.policy.stores import Access, Holds, Java, Nss, PemFiles, Pkcs12
from orchestrator.rotation.reports import Failed, Refused
from orchestrator.rotation.visits import Disarm, Erase
from tests.integration.program import SHELLS_BY_TURNS, Machine, hook, programs
from tests.integration.stores import (
    NEW,
    OLD,
    PASSWORD,
    PRIVATE,
    PUBLIC,
    agent_manifest,
    between,
    der,
    facts,
    in_pkcs12,
    places,
    run,
    server_manifest,
    states,
    surveyed,
    trust,
    with_tools,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")


@pytest.fixture(params=SHELLS_BY_TURNS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(base=tmp_path / "base", path=with_tools(tmp_path / "bin", request.param))


def manifest_of(app: Path, *, nss: bool = True, pkcs12: bool = False, java: bool = False) -> str:
    key = PemFiles(key=f"{app}/tls.key", fullchain=f"{app}/tls.crt", access=PRIVATE)
    entry = Nss(database=f"{app}/nss", name="keyrelay", holds=Holds.CREDENTIAL)
    file = Pkcs12(file=f"{app}/server.p12", password_file=f"{app}/pass", alias="app", access=PRIVATE)
    keystore = Java(
        keystore=f"{app}/keystore",
        password_file=f"{app}/pass",
        alias="app",
        holds=Holds.CREDENTIAL,
        access=PRIVATE,
    )
    more = ((entry, nss), (file, pkcs12), (keystore, java))
    return server_manifest(key, *(store for store, wanted in more if wanted))


@pytest.mark.parametrize(
    "kind", ["nss", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("pkcs12", "java"))]
)
def test_a_visit_that_is_killed_at_any_step_is_made_good_by_the_next(
    dash: Machine, app: Path, tmp_path: Path, kind: str
) -> None:
    manifest = manifest_of(app, **{"nss": False, kind: True})
    place = {"nss": "nss keyrelay", "pkcs12": "server.p12", "java": "keystore app"}[kind]
    theirs = their_entry(app) if kind == "java" else ""
    dash.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    calls, at = tmp_path / "calls", tmp_path / "at"
    calls.write_text("")
    at.write_text("0\n")
    count_and_kill = (
        f"( echo x >>{calls}; read -r at <{at}; n=$(/usr/bin/wc -l <{calls});"
        f' [ "$n" != "$at" ] || {{ read -r _ _ _ _ pid _ <{dash.base}/lock/owner && kill -9 "$pid"; }} )'
        " 2>/dev/null"
    )
    mortal = between(dash, tmp_path / "shims", count_and_kill)
    mortal.report(NEW.activate(manifest))
    steps = calls.read_text().count("x")
    good = {OLD.id: OLD, NEW.id: NEW}
    files = {file.name for file in app.iterdir()}
    killed = 0
    for number, step in enumerate(range(6, steps, 9)):
        then = OLD if number % 2 == 0 else NEW
        calls.write_text("")
        at.write_text(f"{step}\n")
        outcome = mortal.run(then.activate(manifest))
        killed += isinstance(outcome, Failed)
        assert (app / "tls.key").read_bytes() in [one.pair.private.reveal() for one in good.values()]
        assert (app / "tls.crt").read_text() in [one.chain_pem for one in good.values()]

        dash.report(then.activate(manifest))

        assert (app / "tls.key").read_bytes() == then.pair.private.reveal()
        assert {file.name for file in app.iterdir()} == files
        held, _, problems = surveyed(dash)
        assert (set(states(held).values()), problems) == ({"intact"}, {})
        certificates = places(held)[f"{app}/{place}"].certificates
        assert {OLD.digest, NEW.digest} & set(certificates) == {then.digest}
        match kind:
            case "nss":
                assert run("certutil", "-K", "-d", f"sql:{app}/nss").count("<") == 1
            case "pkcs12":
                assert in_pkcs12(app / "server.p12", PASSWORD)[0] == der(then.pair)
            case _:
                assert their_entry(app) == theirs
        assert not (dash.base / "server" / "rooms").exists()
    assert killed > (steps - 6) / 9 / 2


def test_no_secret_is_in_arguments_or_the_environment_or_stays_in_a_file(
    dash: Machine, app: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    watched = between(dash, tmp_path / "shims", f'{{ printf "%s\\n" "$0" "$@"; /usr/bin/env; }} >>{seen}')
    manifest = manifest_of(app, pkcs12=True)
    watched.report(OLD.stage, OLD.activate(manifest), NEW.stage, NEW.activate(manifest))
    surveyed(watched)

    said = seen.read_bytes() + watched.answer + watched.noise
    assert b"pk12util" in said
    secrets = [PASSWORD.encode()]
    for credential in (OLD, NEW):
        secrets += credential.pair.private.reveal().splitlines()[1:-1]
    assert [secret for secret in secrets if secret in said] == []
    keys = [file for file in tmp_path.rglob("*") if file.is_file() and secrets[-1] in file.read_bytes()]
    assert {str(file.relative_to(tmp_path)) for file in keys} == {
        "app/tls.key",
        f"base/server/credentials/{NEW.id}/key.pem",
    }
    assert not list(app.glob("**/.keyrelay*"))


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[None]:
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=755", "none", folder)
    try:
        yield
    finally:
        run("umount", folder)


@as_root
def test_a_full_disk_is_named_before_anything_changes(machine: Machine, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 64):
        manifest = server_manifest(
            PemFiles(key=f"{disk}/tls.key", fullchain=f"{disk}/tls.crt", access=PRIVATE)
        )
        machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
        before = facts(disk / "tls.key", disk / "tls.crt")
        filler = disk / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], check=False, capture_output=True)
        outcome = machine.run(NEW.activate(manifest))
        after = facts(disk / "tls.key", disk / "tls.crt")
        left = {file.name for file in disk.iterdir()}
        filler.unlink()
        machine.report(NEW.activate(manifest))

        assert isinstance(outcome, Refused), outcome
        assert outcome.reason == f"cannot write in {disk}: No space left on device"
        assert (after, left) == (before, {"tls.key", "tls.crt", "filler"})
        assert (disk / "tls.key").read_bytes() == NEW.pair.private.reveal()


@pytest.mark.parametrize("tool", ["certutil", "pk12util"])
def test_a_missing_tool_is_named(machine: Machine, app: Path, tmp_path: Path, tool: str) -> None:
    manifest = manifest_of(app)
    machine.report(OLD.stage, NEW.stage, OLD.activate())
    (machine.path / tool).unlink()
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    outcome = machine.run(NEW.activate(manifest))

    assert isinstance(outcome, Refused)
    assert outcome.reason == f"{tool} is not installed: a store of kind nss needs it"


def test_a_private_key_of_the_entry_s_name_that_lost_its_certificate_is_not_taken_for_ours(
    machine: Machine, app: Path
) -> None:
    database = ("-d", f"sql:{app}/nss")
    mine, secret = app / "mine.pem", ("-passout", f"file:{app}/pass")
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=mine")
    run("openssl", "req", "-x509", *made, "-keyout", mine, "-out", app / "mine.crt")
    file = ("-inkey", mine, "-in", app / "mine.crt", "-name", "keyrelay", "-out", app / "mine.p12")
    run("openssl", "pkcs12", "-export", *file, *secret)
    run("pk12util", "-i", app / "mine.p12", "-w", app / "pass", "-K", "", *database)
    run("certutil", "-D", "-n", "keyrelay", *database)
    theirs = run("certutil", "-K", *database)
    machine.report(OLD.stage)
    outcome = machine.run(OLD.activate(manifest_of(app)))

    assert isinstance(outcome, Refused)
    assert f"{app}/nss has a private key keyrelay that is not keyrelay's: remove it" in outcome.reason
    assert run("certutil", "-K", *database) == theirs
    assert not (app / "tls.key").exists()


def test_a_leaving_server_and_an_erased_credential_leave_nothing_in_stores(
    machine: Machine, app: Path
) -> None:
    manifest = manifest_of(app)
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest), NEW.activate())
    machine.report(OLD.activate(manifest))
    (machine.base / "server" / "current").unlink()
    machine.report(Erase(credentials=(OLD.id,)))
    assert {file.name for file in app.iterdir()} == {"nss", "pass", "unmanaged"}
    assert "keyrelay" not in run("certutil", "-L", "-d", f"sql:{app}/nss")

    machine.report(NEW.activate(manifest))
    assert (app / "tls.key").exists()
    machine.report(Disarm(credentials=(NEW.id,), in_use=None))
    assert {file.name for file in app.iterdir()} == {"nss", "pass", "unmanaged"}
    assert surveyed(machine)[0] is None


def test_the_hook_finds_the_stores_filled_and_a_failing_one_takes_them_back(
    machine: Machine, app: Path
) -> None:
    manifest = manifest_of(app, nss=False)
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    seen = app / "seen"
    outcome = machine.run(NEW.activate(manifest, hook=hook(f"cat {app}/tls.key >>{seen}; exit 1")))

    assert isinstance(outcome, Failed)
    assert seen.read_bytes() == NEW.pair.private.reveal() + OLD.pair.private.reveal()
    assert (app / "tls.key").read_bytes() == OLD.pair.private.reveal()
    outcome = machine.run(NEW.activate(manifest, hook=hook("false"), goes_back=False))
    assert isinstance(outcome, Failed)
    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()
    assert not list(app.glob(".keyrelay*"))


def test_a_change_of_the_stores_alone_whose_hook_fails_is_taken_back(machine: Machine, app: Path) -> None:
    one = manifest_of(app, nss=False)
    two = server_manifest(PemFiles(key=f"{app}/tls.key", chain=f"{app}/chain.pem", access=PRIVATE))
    dislikes = hook(f"echo >>{app}/ran; test ! -e {app}/chain.pem")
    machine.report(OLD.stage, OLD.activate(one))
    before = facts(app / "tls.key")
    outcome = machine.run(OLD.activate(two, hook=dislikes))

    assert isinstance(outcome, Failed)
    assert outcome.reason == f"the hook exited 1; still on {OLD.id}, with the stores of before"
    assert (app / "ran").read_text() == "\n\n"
    assert not (app / "chain.pem").exists()
    assert (app / "tls.crt").read_text() == OLD.chain_pem
    assert facts(*before) == before
    assert not machine.report(OLD.activate(one, hook=dislikes)).changed


def test_a_store_that_is_refused_on_the_way_back_keeps_no_hook_from_running(
    machine: Machine, app: Path
) -> None:
    manifest = manifest_of(app, nss=False)
    machine.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    current = f"{machine.base}/server/current"
    link = f"ln -sf unmanaged {app}/tls.crt"
    meddles = hook(
        f'{link}; readlink {current} >>{app}/saw; test "$(readlink {current})" = credentials/{OLD.id}'
    )
    outcome = machine.run(NEW.activate(manifest, hook=meddles))

    assert isinstance(outcome, Failed)
    assert outcome.reason == (
        f"the hook exited 1; back on {OLD.id},"
        f" and there the stores could not be filled: {app}/tls.crt is a symbolic link"
    )
    assert (app / "saw").read_text() == f"credentials/{NEW.id}\ncredentials/{OLD.id}\n"
    assert not (machine.base / "server" / "hook-pending").exists()
    assert not list(app.glob(".keyrelay*"))


def test_the_successor_of_a_leaked_key_is_put_in_use_though_a_store_is_refused(
    machine: Machine, app: Path
) -> None:
    machine.report(OLD.stage, NEW.stage, OLD.activate())
    (app / "tls.crt").write_text("somebody else's\n")
    manifest = manifest_of(app, nss=False, pkcs12=True)
    assert isinstance(machine.run(NEW.activate(manifest)), Refused)
    outcome = machine.run(NEW.activate(manifest, goes_back=False))

    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith(
        f"the stores could not be filled: {app}/tls.crt is there and is not keyrelay's"
    )
    assert outcome.reason.endswith(f"; still on {NEW.id}")
    assert (machine.base / "server" / "current").readlink() == Path(f"credentials/{NEW.id}")
    assert (app / "tls.crt").read_text() == "somebody else's\n"
    assert in_pkcs12(app / "server.p12", PASSWORD)[0] == der(NEW.pair)
    (app / "tls.crt").unlink()
    machine.report(NEW.activate(manifest, goes_back=False))
    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()


def adopting(app: Path) -> str:
    """Two stores that take the places of what others have put there, and one that takes nobody's."""
    adopt = Access(mode="600", adopt=True)
    keystore = Java(
        keystore=f"{app}/keystore",
        password_file=f"{app}/pass",
        alias="theirs",
        holds=Holds.CREDENTIAL,
        access=adopt,
    )
    return server_manifest(
        PemFiles(key=f"{app}/tls.key", certificate=f"{app}/tls.crt", access=adopt), keystore
    )


def their_entry(app: Path) -> str:
    """The certificate of somebody else's entry in the keystore, which is made with it if it is missing."""
    named = ("-keystore", app / "keystore", "-storepass:file", app / "pass", "-alias", "theirs")
    if not (app / "keystore").exists():
        run("keytool", "-genkeypair", "-keyalg", "EC", "-dname", "CN=theirs", *named)
    return run("keytool", "-list", "-rfc", *named)


def test_what_was_adopted_is_given_back_where_a_first_hook_fails(machine: Machine, app: Path) -> None:
    (app / "tls.key").write_text("the operator's key\n")
    (app / "tls.key").chmod(0o640)
    before, entry = facts(app / "tls.key"), their_entry(app)
    machine.report(OLD.stage)
    outcome = machine.run(OLD.activate(adopting(app), hook=hook("false")))

    assert isinstance(outcome, Failed)
    assert "no credential is in use, as before" in outcome.reason
    assert (app / "tls.key").read_text() == "the operator's key\n"
    assert facts(*before) == before
    assert their_entry(app) == entry
    assert {file.name for file in app.iterdir()} == {"keystore", "nss", "pass", "unmanaged", "tls.key"}
    assert not (machine.base / "server" / "rooms").exists()


def test_what_was_adopted_is_kept_until_a_hook_has_run(dash: Machine, app: Path) -> None:
    (app / "tls.key").write_text("the operator's key\n")
    entry = their_entry(app)
    dash.report(OLD.stage)
    kill = f'read -r _ _ _ _ pid _ <{dash.base}/lock/owner && kill -9 "$pid"'
    assert isinstance(dash.run(OLD.activate(adopting(app), hook=hook(kill))), Failed)
    assert (app / "tls.key").read_bytes() == OLD.pair.private.reveal()

    outcome = dash.run(OLD.activate(adopting(app), hook=hook("false")))
    assert isinstance(outcome, Failed)
    assert dash.report(OLD.activate()).changed
    assert (app / "tls.key").read_text() == "the operator's key\n"
    assert their_entry(app) == entry

    dash.report(OLD.activate(adopting(app), hook=hook("true")))
    assert (app / "tls.key").read_bytes() == OLD.pair.private.reveal()
    assert not list(app.glob(".keyrelay*"))
    assert not (dash.base / "server" / "adopted").exists()


def test_a_store_that_cannot_be_filled_after_the_switch_takes_the_host_back(
    dash: Machine, app: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(app)
    dash.report(OLD.stage, NEW.stage, OLD.activate(manifest))
    # The copy that the rehearsal works on may be filled, the database itself not.
    stuck = between(
        dash, tmp_path / "shims", f'case "$0 $*" in */pk12util*sql:{app}/nss*) echo no room >&2; exit 1; esac'
    )
    seen = tmp_path / "hook-saw"
    outcome = stuck.run(NEW.activate(manifest, hook=hook(f"readlink {dash.base}/server/current >>{seen}")))

    assert isinstance(outcome, Failed)
    assert outcome.reason == (
        f"the stores could not be filled: no room; back on {OLD.id},"
        " and there the stores could not be filled: no room"
    )
    assert seen.read_text() == f"credentials/{OLD.id}\n"
    assert (app / "tls.key").read_bytes() == OLD.pair.private.reveal()
    held, _, _ = surveyed(dash)
    assert held is not None
    assert (held.digest, held.credential) == ("", OLD.id)
    assert states(held)[f"{app}/nss keyrelay"] == "missing"
    assert not list(app.glob(".keyrelay*"))

    assert dash.report(OLD.activate(manifest)).changed
    held, _, _ = surveyed(dash)
    assert set(states(held).values()) == {"intact"}
    outcome = stuck.run(NEW.activate(manifest, goes_back=False))
    assert isinstance(outcome, Failed)
    assert outcome.reason == f"the stores could not be filled: no room; still on {NEW.id}"
    held, _, _ = surveyed(dash)
    assert held is not None
    assert (held.digest, held.credential) == ("", OLD.id)
    dash.report(Erase(credentials=(OLD.id,)))
    held, _, _ = surveyed(dash)
    assert held is not None
    assert (held.digest, held.credential) == ("", NEW.id)
    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()


def test_a_keystore_that_somebody_changes_during_the_visit_keeps_their_change(
    dash: Machine, app: Path, tmp_path: Path
) -> None:
    keystore = app / "keystore"
    java = Java(
        keystore=f"{keystore}",
        password_file=f"{app}/pass",
        alias="keyrelay",
        holds=Holds.ANCHORS,
        access=PUBLIC,
    )
    made = ("-keystore", keystore, "-storepass:file", app / "pass")
    (tmp_path / "mine.pem").write_text(OLD.certificate_pem)
    run("keytool", "-importcert", "-noprompt", "-alias", "mine", "-file", tmp_path / "mine.pem", *made)
    once = tmp_path / "once"
    meddled = between(
        dash,
        tmp_path / "shims",
        f'case "$0 $*" in */mv*partly*) [ -e {once} ] || /bin/dd if={app}/nss/cert9.db of={keystore}'
        f" 2>{once}; esac",
    )
    outcome = meddled.run(trust(agent_manifest(java)))

    assert isinstance(outcome, Failed)
    assert outcome.reason.endswith(
        f"the stores could not be filled: {keystore} was changed by somebody else during the visit"
    )
    assert keystore.read_bytes() == (app / "nss" / "cert9.db").read_bytes()


@as_root
def test_a_login_that_is_not_root_fills_what_is_its_own(lab_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    app = lab_folder / "app"
    for folder in (app, lab_folder / "base"):
        folder.mkdir(mode=0o755)
        os.chown(folder, nobody, -1)
    machine = Machine(base=lab_folder / "base", path=programs(lab_folder / "bin", "dash"), user=nobody)
    own = server_manifest(PemFiles(key=f"{app}/tls.key", access=PRIVATE))
    machine.report(OLD.stage, NEW.stage, OLD.activate(own))
    assert (app / "tls.key").stat().st_uid == nobody
    assert surveyed(machine)[2] == {}

    roots = server_manifest(PemFiles(key=f"{app}/tls.key", access=Access(mode="600", owner="root")))
    outcome = machine.run(NEW.activate(roots))
    assert isinstance(outcome, Refused)
    assert outcome.reason == f"cannot give {app}/tls.key to root: Operation not permitted"
    elsewhere = server_manifest(PemFiles(key="/usr/local/share/tls.key", access=PRIVATE))
    outcome = machine.run(NEW.activate(elsewhere))
    assert isinstance(outcome, Refused)
    assert outcome.reason == "cannot write in /usr/local/share: Permission denied"
    assert (app / "tls.key").read_bytes() == OLD.pair.private.reveal()
