"""Files that the host program puts elsewhere: filled, kept, mended, removed, and nobody else's touched."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.policy.stores import Access, PemAnchors, PemFiles, Pkcs12, Rendered, digest_of
from orchestrator.rotation.reports import Activated, Failed, Refused, Surveyed, Trusted
from orchestrator.rotation.visits import Hook, Survey
from tests.integration.program import SHELLS_BY_TURNS, Machine, programs
from tests.integration.stores import (
    NEW,
    OLD,
    PRIVATE,
    PUBLIC,
    agent_manifest,
    der,
    digests,
    facts,
    in_pkcs12,
    issuer,
    places,
    root,
    server_manifest,
    states,
    surveyed,
    trust,
)


@pytest.fixture(scope="module", params=SHELLS_BY_TURNS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs(tmp_path_factory.mktemp("programs") / "bin", request.param)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of an application."""
    folder = tmp_path / "app"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "unmanaged").write_text("mine\n")
    return folder


def every_file(app: Path) -> str:
    return server_manifest(
        PemFiles(
            key=f"{app}/tls.key",
            certificate=f"{app}/tls.crt",
            chain=f"{app}/chain.pem",
            fullchain=f"{app}/full.pem",
            combined=f"{app}/both.pem",
            access=Access(mode="640"),
        ),
        Pkcs12(file=f"{app}/server.p12", password_file=f"{app}/pass", alias="app", access=PRIVATE),
        Rendered(file=f"{app}/app.conf", access=PUBLIC),
        app="listen = [1]\n# \\ $HOME `id` 'x'\n\n",
    )


def settled(machine: Machine, manifest: str) -> Machine:
    """OLD is in use and in the stores, NEW is staged."""
    machine.report(OLD.stage, OLD.activate(manifest))
    machine.report(NEW.stage)
    return machine


def test_a_switch_fills_every_file_and_a_survey_tells_what_is_in_them(machine: Machine, app: Path) -> None:
    manifest = every_file(app)
    settled(machine, manifest)
    report = machine.report(NEW.activate(manifest))

    assert isinstance(report, Activated)
    assert report.stores == digest_of(manifest)
    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()
    assert (app / "tls.crt").read_text() == NEW.certificate_pem
    assert (app / "chain.pem").read_text() == issuer().certificate.pem
    assert (app / "full.pem").read_text() == NEW.chain_pem
    assert (app / "both.pem").read_bytes() == NEW.pair.private.reveal() + NEW.chain_pem.encode()
    assert (app / "app.conf").read_text() == "listen = [1]\n# \\ $HOME `id` 'x'\n\n"
    assert in_pkcs12(app / "server.p12", (app / "pass").read_text().strip()) == (
        der(NEW.pair),
        digests(NEW.chain_pem),
        b"app",
    )
    modes = {file.name: oct(file.stat().st_mode & 0o7777) for file in app.iterdir()}
    assert modes == {
        "unmanaged": modes["unmanaged"],
        "tls.key": "0o640",
        "tls.crt": "0o640",
        "chain.pem": "0o640",
        "full.pem": "0o640",
        "both.pem": "0o640",
        "server.p12": "0o600",
        "pass": "0o600",
        "app.conf": "0o644",
    }
    held, _, problems = surveyed(machine)
    assert held is not None
    assert (held.digest, held.credential, problems) == (digest_of(manifest), NEW.id, {})
    assert set(states(held).values()) == {"intact"}
    spki = NEW.pair.public.spki_digest
    told = {Path(place).name: (one.keys, set(one.certificates)) for place, one in places(held).items()}
    (above,) = digests(issuer().certificate.pem)
    assert told == {
        "tls.key": ((spki,), set()),
        "tls.crt": ((spki,), {NEW.digest}),
        "chain.pem": ((), {above}),
        "full.pem": ((spki,), {NEW.digest, above}),
        "both.pem": ((spki,), {NEW.digest, above}),
        "server.p12": ((spki,), {NEW.digest, above}),
        "app.conf": ((), set()),
    }


def test_stores_that_are_right_are_not_written_again(machine: Machine, app: Path) -> None:
    manifest = every_file(app)
    settled(machine, manifest)
    before = facts(*app.iterdir(), app)
    report = machine.report(OLD.activate(manifest))

    assert not report.changed
    assert facts(*app.iterdir(), app) == before


@pytest.mark.parametrize("harm", ["deleted", "changed", "everybody's"])
def test_a_file_that_was_harmed_is_told_and_mended_alone(machine: Machine, app: Path, harm: str) -> None:
    manifest = every_file(app)
    settled(machine, manifest)
    for name in ("tls.key", "both.pem", "server.p12", "app.conf"):
        before = facts(*(file for file in app.iterdir() if file.name != name))
        good = (app / name).read_bytes()
        match harm:
            case "deleted":
                (app / name).unlink()
            case "changed":
                (app / name).write_bytes(b"something else\n")
            case _:
                (app / name).chmod(0o666)
        held, _, problems = surveyed(machine)
        if harm == "everybody's":
            assert problems == {f"{app}/{name}": "mode 666"}
        else:
            told = states(held)
            assert told.pop(f"{app}/{name}") in ("missing", "changed", "unreadable")
            assert set(told.values()) == {"intact"}

        assert machine.report(OLD.activate(manifest)).changed

        held, _, problems = surveyed(machine)
        assert (set(states(held).values()), problems) == ({"intact"}, {})
        assert name == "server.p12" or (app / name).read_bytes() == good
        assert facts(*before) == before


def test_what_leaves_the_manifest_is_removed_and_nothing_else(machine: Machine, app: Path) -> None:
    settled(machine, every_file(app))
    before = facts(app / "unmanaged", app / "tls.crt")
    smaller = server_manifest(PemFiles(certificate=f"{app}/tls.crt", access=Access(mode="640")))
    assert machine.report(OLD.activate(smaller)).changed

    assert {file.name for file in app.iterdir()} == {"unmanaged", "tls.crt"}
    assert facts(*before) == before
    assert machine.report(OLD.activate()).changed
    assert [file.name for file in app.iterdir()] == ["unmanaged"]
    held, _, _ = surveyed(machine)
    assert held is None
    assert not machine.report(OLD.activate()).changed


def test_an_agent_gets_its_anchors(machine: Machine, app: Path) -> None:
    manifest = agent_manifest(PemAnchors(anchors=f"{app}/ca.pem", access=PUBLIC), roots=(1, 2))
    report = machine.report(trust(manifest))

    assert isinstance(report, Trusted)
    assert report.stores == digest_of(manifest)
    wanted = {*digests(root(1).certificate.pem), *digests(root(2).certificate.pem)}
    assert set(digests((app / "ca.pem").read_text())) == wanted
    _, held, problems = surveyed(machine)
    assert set(places(held)[f"{app}/ca.pem"].certificates) == wanted
    assert problems == {}
    assert not machine.report(trust(manifest)).changed
    (app / "ca.pem").write_text("")
    assert machine.report(trust(manifest)).changed
    assert set(digests((app / "ca.pem").read_text())) == wanted
    assert machine.report(trust("", 2)).changed
    assert [file.name for file in app.iterdir()] == ["unmanaged"]


def test_a_store_that_is_refused_keeps_no_bundle_from_coming_into_use_nor_its_programs_from_being_told(
    machine: Machine, app: Path, tmp_path: Path
) -> None:
    refused = agent_manifest(PemAnchors(anchors=f"{app}/missing/ca.pem", access=PUBLIC))
    told = tmp_path / "told"
    machine.report(trust(""))

    order = replace(
        trust(refused, 2), hooks=(Hook(command=f"readlink {machine.base}/agent/current >{told}"),)
    )
    outcome = machine.run(order)

    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("bundle 1.2 is in use, but the stores could not be filled: ")
    assert told.read_text() == "bundles/1.2\n"
    report = machine.report(Survey())
    assert isinstance(report, Surveyed)
    assert report.survey.bundle is not None
    assert (report.survey.bundle.position, report.survey.untold) == (order.bundle.position, False)
    assert isinstance(machine.run(order), Refused)

    fails = replace(trust(refused, 3), hooks=(Hook(command="echo not today; exit 1"),))
    outcome = machine.run(fails)
    assert isinstance(outcome, Failed)
    assert outcome.reason.endswith(", and the hook exited 1: not today")
    assert isinstance(machine.run(fails), Failed)


def test_who_reads_the_anchors_while_they_are_replaced_reads_all_of_those_of_before(
    machine: Machine, app: Path
) -> None:
    store = PemAnchors(anchors=f"{app}/ca.pem", access=PUBLIC)
    machine.report(trust(agent_manifest(store, roots=(1,))))
    with (app / "ca.pem").open() as reader:
        assert machine.report(trust(agent_manifest(store, roots=(2,)), 2)).changed
        assert digests(reader.read()) == digests(root(1).certificate.pem)


def refusal(machine: Machine, manifest: str) -> str:
    """Why a switch to NEW is refused; nothing has changed then, neither link nor stores."""
    before = machine.files()
    outcome = machine.run(NEW.activate(manifest))
    assert isinstance(outcome, Refused), outcome
    assert machine.files() == before
    return outcome.reason


def one_key(app: Path, **access: object) -> str:
    rights = {"mode": "600", **access}
    return server_manifest(PemFiles(key=f"{app}/tls.key", access=Access(**rights)))  # type: ignore[arg-type]  # the test names Access's own arguments


def test_a_file_that_is_not_keyrelays_is_refused_unless_it_is_adopted(machine: Machine, app: Path) -> None:
    settled(machine, "")
    (app / "tls.key").write_text("precious\n")
    assert refusal(machine, one_key(app)) == (
        f"{app}/tls.key is there and is not keyrelay's: move it away, or let the store adopt it (adopt: yes)"
    )
    assert (app / "tls.key").read_text() == "precious\n"

    assert machine.report(NEW.activate(one_key(app, adopt=True))).changed
    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()


def test_unsafe_and_missing_places_are_refused(machine: Machine, app: Path, tmp_path: Path) -> None:
    settled(machine, "")
    (app / "tls.key").symlink_to(app / "unmanaged")
    assert refusal(machine, one_key(app)) == f"{app}/tls.key is a symbolic link"
    (app / "tls.key").unlink()
    (app / "tls.key").mkdir()
    assert refusal(machine, one_key(app)) == f"{app}/tls.key is no plain file"
    (app / "tls.key").rmdir()
    for mode in (0o777, 0o1777, 0o775):
        app.chmod(mode)
        wanted = f"{app} has mode {mode:o}, expected writable by its owner only"
        assert refusal(machine, one_key(app)).startswith(wanted)
    app.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(app)
    assert refusal(machine, one_key(link)) == f"{link} is a symbolic link, expected a folder"
    assert refusal(machine, one_key(app / "none")) == f"{app}/none is missing, expected a folder"
    unknown = refusal(machine, one_key(app, owner="no-such-user"))
    assert unknown.endswith(" to no-such-user: the host has no such user or group")
    assert "no-such-group" in refusal(machine, one_key(app, group="no-such-group"))
    assert [file.name for file in app.iterdir()] == ["unmanaged"]
    if os.geteuid() == 0:
        os.chown(app, 12345, -1)
        reason = refusal(machine, one_key(app))
        assert reason == f"{app} has owner 12345, expected root or the managing user as owner"


GARBLED = {
    "another first line": "keyrelay stores 2\n",
    "no store": "keyrelay stores 1\nshop pem credential key=/a/b mode=600\n",
    "an unknown kind": "keyrelay stores 1\nstore soap credential file=/a/b mode=600\n",
    "what a kind does not hold": "keyrelay stores 1\nstore pkcs12 anchors file=/a/b mode=600\n",
    "an unknown word": "keyrelay stores 1\nstore pem credential key=/a/b mode=600 run=/bin/sh\n",
    "a path that goes up": "keyrelay stores 1\nstore pem credential key=/a/../b mode=600\n",
    "a relative path": "keyrelay stores 1\nstore pem credential key=a/b mode=600\n",
    "a path with a glob": "keyrelay stores 1\nstore pem credential key=/a/* mode=600\n",
    "a path in the base": "keyrelay stores 1\nstore pem credential key={base}/server/key mode=600\n",
    "a mode that lets others write": "keyrelay stores 1\nstore pem credential key=/a/b mode=666\n",
    "no mode": "keyrelay stores 1\nstore pem credential key=/a/b\n",
    "no path": "keyrelay stores 1\nstore pem credential mode=600\n",
    "an owner like an option": "keyrelay stores 1\nstore pem credential key=/a/b owner=-R mode=600\n",
    "a name like an option": "keyrelay stores 1\nstore nss credential database=/a/b name=-d\n",
    "fewer lines than it says": "keyrelay stores 1\nstore template text file=/a/b mode=644 lines=2\nx\n",
    "too many stores": "keyrelay stores 1\n" + "store pem credential key={app}/k mode=600\n" * 17,
}


@pytest.mark.parametrize("manifest", GARBLED.values(), ids=GARBLED.keys())
def test_a_manifest_that_is_none_is_refused(machine: Machine, app: Path, manifest: str) -> None:
    settled(machine, "")
    text = manifest.format(base=machine.base, app=app)
    assert refusal(machine, text) == "the manifest of the server's stores is garbled"
    assert [file.name for file in app.iterdir()] == ["unmanaged"]


def test_a_link_in_the_place_of_a_store_is_neither_followed_nor_removed(machine: Machine, app: Path) -> None:
    settled(machine, one_key(app))
    (app / "tls.key").unlink()
    (app / "tls.key").symlink_to(app / "unmanaged")
    held, _, _ = surveyed(machine)
    assert states(held) == {f"{app}/tls.key": "changed"}
    assert refusal(machine, one_key(app)) == f"{app}/tls.key is a symbolic link"

    machine.report(OLD.activate())
    assert (app / "tls.key").is_symlink()
    assert (app / "unmanaged").read_text() == "mine\n"


def test_what_somebody_else_has_put_in_the_place_of_ours_is_not_removed(machine: Machine, app: Path) -> None:
    settled(machine, one_key(app))
    (app / "tls.key").write_text("the operator's key\n")
    for order in (OLD.activate(), NEW.activate()):
        outcome = machine.run(order)
        assert isinstance(outcome, Refused), outcome
        assert outcome.reason == f"{app}/tls.key was changed by somebody else: move it away"
        assert (app / "tls.key").read_text() == "the operator's key\n"

    (app / "tls.key").rename(app / "mine")
    assert machine.report(OLD.activate()).changed
    machine.report(OLD.activate(one_key(app)))
    with (app / "tls.key").open("a") as file:
        file.write("# a note\n")
    assert machine.report(OLD.activate()).changed
    assert {file.name for file in app.iterdir()} == {"unmanaged", "mine"}


def test_another_name_of_a_replaced_file_keeps_what_it_had(machine: Machine, app: Path) -> None:
    settled(machine, one_key(app))
    os.link(app / "tls.key", app / "backup")
    machine.report(NEW.activate(one_key(app)))

    assert (app / "tls.key").read_bytes() == NEW.pair.private.reveal()
    assert (app / "backup").read_bytes() == OLD.pair.private.reveal()


def test_stores_may_share_a_password_file_that_is_missing(machine: Machine, app: Path) -> None:
    one, two = (
        Pkcs12(file=f"{app}/{name}.p12", password_file=f"{app}/pass", alias=name, access=PRIVATE)
        for name in ("one", "two")
    )
    machine.report(OLD.stage, OLD.activate(server_manifest(one, two)))
    password = (app / "pass").read_text().strip()

    assert len(password) == 48
    assert [in_pkcs12(app / f"{name}.p12", password)[2] for name in ("one", "two")] == [b"one", b"two"]
    machine.report(OLD.activate(server_manifest(two)))
    assert {file.name for file in app.iterdir()} == {"unmanaged", "two.p12", "pass"}
    machine.report(OLD.activate())
    assert {file.name for file in app.iterdir()} == {"unmanaged"}


def test_a_file_that_one_role_leaves_to_the_other_stays(machine: Machine, app: Path) -> None:
    text = Rendered(file=f"{app}/app.conf", access=PUBLIC)
    settled(machine, server_manifest(text, app="one\n"))
    before = facts(app / "app.conf")
    machine.report(trust(agent_manifest(text, app="one\n")))
    machine.report(OLD.activate())

    assert facts(app / "app.conf") == before
    machine.report(trust("", 2))
    assert [file.name for file in app.iterdir()] == ["unmanaged"]
