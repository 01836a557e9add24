"""Entries that the host program puts into keystores and databases of others: nobody else's is touched."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.keys.material import Algorithm
from orchestrator.policy.stores import Holds, Java, Nss, Pkcs12
from orchestrator.rotation.reports import Failed, Refused
from orchestrator.rotation.visits import Activate, CredentialId
from tests.integration.program import SHELLS_BY_TURNS, Machine, hook
from tests.integration.stores import (
    NEW,
    OLD,
    PRIVATE,
    PUBLIC,
    agent_manifest,
    credential,
    digests,
    facts,
    issuer,
    places,
    root,
    run,
    server_manifest,
    states,
    surveyed,
    trust,
    with_tools,
)

PASSWORD = "correct horse"


@pytest.fixture(scope="module", params=SHELLS_BY_TURNS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tools(tmp_path_factory.mktemp("programs") / "bin", request.param)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of an application."""
    folder = tmp_path / "app"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "pass").write_text(f"{PASSWORD}\n")
    (folder / "pass").chmod(0o600)
    return folder


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Somebody else's certificate and key, in PEM and PKCS #12."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    somebodys_entry(folder, "theirs")
    return folder


def somebodys_entry(folder: Path, name: str) -> None:
    """Another key and certificate with that name in ``their.p12``."""
    made = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", folder / "key.pem")
    run("openssl", "req", "-x509", *made, "-subj", f"/CN={name}", "-days", "9", "-out", folder / "cert.pem")
    given = ("-inkey", folder / "key.pem", "-in", folder / "cert.pem", "-name", name)
    run("openssl", "pkcs12", "-export", *given, "-passout", "pass:p", "-out", folder / "their.p12")


def import_theirs(database: Path, theirs: Path) -> None:
    given = ("-W", "p", "-k", database.parent / "pass")
    run("pk12util", "-i", theirs / "their.p12", "-d", f"sql:{database}", *given)


@pytest.fixture
def database(app: Path, theirs: Path) -> Path:
    """An NSS database with somebody else's entry."""
    folder = app / "nss"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    run("certutil", "-N", "-d", f"sql:{folder}", "-f", app / "pass")
    import_theirs(folder, theirs)
    return folder


@pytest.fixture
def keystore(app: Path, theirs: Path) -> Path:
    """A keystore of Java with somebody else's entry."""
    file = app / "keystore"
    given = ("-srckeystore", theirs / "their.p12", "-srcstorepass", "p", "-destkeystore", file)
    run("keytool", "-importkeystore", *given, "-deststorepass:file", app / "pass")
    file.chmod(0o640)
    return file


def in_nss(database: Path) -> dict[str, str]:
    """How each entry of a database is trusted."""
    listing = run("certutil", "-L", "-d", f"sql:{database}")
    return dict(re.findall(r"^(\S+) +(\S*,\S*,\S*)", listing, re.MULTILINE))


def nss_certificates(database: Path, name: str) -> list[str]:
    return digests(run("certutil", "-L", "-d", f"sql:{database}", "-n", name, "-a").replace("\r", ""))


def nss_keys(database: Path) -> list[str]:
    listing = run("certutil", "-K", "-d", f"sql:{database}", "-f", database.parent / "pass")
    return sorted(re.findall(r"^< *\d+> \S+ +(\S+) +\S+", listing, re.MULTILINE))


def nss(database: Path, **arguments: object) -> Nss:
    given = {"name": "keyrelay", "holds": Holds.CREDENTIAL, "password_file": f"{database.parent}/pass"}
    return Nss(database=f"{database}", **{**given, **arguments})  # type: ignore[arg-type]  # the test names Nss's own arguments


def refusal(machine: Machine, order: Activate) -> str:
    before = machine.files()
    outcome = machine.run(order)
    assert isinstance(outcome, Refused), outcome
    assert machine.files() == before
    return outcome.reason


def test_a_switch_replaces_the_key_in_an_nss_database(machine: Machine, database: Path) -> None:
    manifest = server_manifest(nss(database))
    their_key = nss_keys(database)
    their_certificate = nss_certificates(database, "theirs")
    machine.report(OLD.stage, OLD.activate(manifest), NEW.stage)
    assert nss_certificates(database, "keyrelay") == [OLD.digest]
    machine.report(NEW.activate(manifest))

    assert nss_certificates(database, "keyrelay") == [NEW.digest]
    (above,) = digests(issuer().certificate.pem)
    chain = f"keyrelay-{above[:16]}"
    assert in_nss(database) == {"theirs": "u,u,u", "keyrelay": "u,u,u", chain: ",,"}
    assert nss_certificates(database, "theirs") == their_certificate
    assert len(nss_keys(database)) == 2
    held, _, problems = surveyed(machine)
    assert states(held) == {f"{database} keyrelay": "intact", f"{database} {chain}": "intact"}
    assert places(held)[f"{database} keyrelay"].keys == (NEW.pair.public.spki_digest,)
    assert problems == {}

    before = {file: file.stat().st_mtime_ns for file in database.iterdir()}
    assert not machine.report(NEW.activate(manifest)).changed
    assert {file: file.stat().st_mtime_ns for file in database.iterdir()} == before

    assert machine.report(NEW.activate()).changed
    assert in_nss(database) == {"theirs": "u,u,u"}
    assert nss_keys(database) == their_key
    assert nss_certificates(database, "theirs") == their_certificate


def test_a_key_whose_name_ends_like_ours_stays_in_an_nss_database(
    machine: Machine, database: Path, theirs: Path
) -> None:
    somebodys_entry(theirs, "my keyrelay")
    import_theirs(database, theirs)
    their_keys = nss_keys(database)
    manifest = server_manifest(nss(database))
    machine.report(OLD.stage, OLD.activate(manifest), NEW.stage, NEW.activate(manifest))
    assert len(nss_keys(database)) == len(their_keys) + 1

    machine.report(NEW.activate())
    assert nss_keys(database) == their_keys


def test_a_password_that_we_made_stays_while_something_is_under_it(
    machine: Machine, app: Path, theirs: Path
) -> None:
    password, keystore, database = app / "made.pass", app / "made.p12", app / "second"
    ours = server_manifest(java(keystore, password_file=f"{password}"))
    machine.report(OLD.stage, OLD.activate(ours))
    given = ("-srckeystore", theirs / "their.p12", "-srcstorepass", "p", "-destkeystore", keystore)
    run("keytool", "-importkeystore", *given, "-deststorepass:file", password)
    machine.report(OLD.activate())
    assert "theirs" in run("keytool", "-list", "-keystore", keystore, "-storepass:file", password)

    password, file = app / "shared.pass", app / "app.p12"
    own = Pkcs12(file=f"{file}", password_file=f"{password}", alias="app", access=PRIVATE)
    machine.report(OLD.activate(server_manifest(own)))
    database.mkdir()
    database.chmod(0o755)
    run("certutil", "-N", "-d", f"sql:{database}", "-f", password)
    entry = nss(database, password_file=f"{password}")
    machine.report(OLD.activate(server_manifest(own, entry)))
    machine.report(OLD.activate(server_manifest(entry)))
    assert (file.exists(), password.exists()) == (False, True)
    machine.report(NEW.stage, NEW.activate(server_manifest(entry)))


def test_an_nss_entry_that_was_harmed_is_told_and_mended(machine: Machine, database: Path) -> None:
    manifest = server_manifest(nss(database))
    machine.report(OLD.stage, OLD.activate(manifest))
    password = ("-f", database.parent / "pass")
    run("certutil", "-D", "-d", f"sql:{database}", "-n", "keyrelay", *password)
    held, _, _ = surveyed(machine)
    assert states(held)[f"{database} keyrelay"] == "missing"
    assert machine.report(OLD.activate(manifest)).changed
    assert in_nss(database)["keyrelay"] == "u,u,u"
    assert len(nss_keys(database)) == 2

    anchors = agent_manifest(nss(database, name="fleet", holds=Holds.ANCHORS))
    machine.report(trust(anchors))
    (digest,) = digests(root(1).certificate.pem)
    name = f"fleet-{digest[:16]}"
    assert in_nss(database)[name] == "C,,"
    run("certutil", "-M", "-d", f"sql:{database}", "-n", name, "-t", ",,", *password)
    _, held, _ = surveyed(machine)
    assert states(held) == {f"{database} {name}": "changed"}
    assert machine.report(trust(anchors)).changed
    assert in_nss(database)[name] == "C,,"
    assert not machine.report(trust(anchors)).changed


def test_a_database_whose_modules_somebody_else_may_name_is_not_opened_by_a_survey(
    machine: Machine, database: Path
) -> None:
    machine.report(OLD.stage, OLD.activate(server_manifest(nss(database))))
    (database / "pkcs11.txt").chmod(0o666)
    held, _, _ = surveyed(machine)
    assert set(states(held).values()) == {"unreadable"}
    (database / "pkcs11.txt").chmod(0o600)
    held, _, _ = surveyed(machine)
    assert set(states(held).values()) == {"intact"}


CUT_SHORT = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
database.execute("CREATE TABLE cut_short (text)")
database.executemany("INSERT INTO cut_short VALUES (?)", [("x" * 3000,)] * 100)
os.kill(os.getpid(), 9)
"""


def test_a_change_of_a_database_that_was_cut_short_is_taken_back(machine: Machine, database: Path) -> None:
    manifest = server_manifest(nss(database))
    machine.report(OLD.stage, OLD.activate(manifest), NEW.stage)
    subprocess.run([sys.executable, "-c", CUT_SHORT, database / "cert9.db"], check=False)
    held, _, _ = surveyed(machine)
    assert set(states(held).values()) == {"unreadable"}

    machine.report(NEW.activate(manifest))
    assert nss_certificates(database, "keyrelay") == [NEW.digest]
    held, _, _ = surveyed(machine)
    assert set(states(held).values()) == {"intact"}


def test_what_an_nss_database_refuses_is_known_before_anything_changes(
    machine: Machine, database: Path, app: Path, theirs: Path
) -> None:
    ed25519 = credential(CredentialId("7" * 32), Algorithm.ED25519)
    machine.report(OLD.stage, OLD.activate(), NEW.stage, ed25519.stage)
    manifest = server_manifest(nss(database))
    run("certutil", "-N", "-d", f"sql:{theirs}", "--empty-password")

    (app / "wrong").write_text("not it\n")
    wrong = server_manifest(nss(database, password_file=f"{app}/wrong"))
    assert "certutil cannot open the NSS database" in refusal(machine, NEW.activate(wrong))
    assert "cannot be filled" in refusal(machine, ed25519.activate(manifest))
    none = server_manifest(nss(app, password_file=""))
    assert "certutil -N makes one" in refusal(machine, NEW.activate(none))
    taken = server_manifest(nss(database, name="theirs"))
    assert f"the entry theirs in {database} is not keyrelay's" in refusal(machine, NEW.activate(taken))
    for file in ("pkcs11.txt", "cert9.db"):
        before = (database / file).stat().st_mode
        (database / file).chmod(0o664)
        wanted = f"{database}/{file} has mode 664, expected writable by its owner only"
        assert refusal(machine, NEW.activate(manifest)) == wanted
        (database / file).chmod(before & 0o777)
    if os.geteuid() == 0:
        os.chown(database / "pkcs11.txt", 12345, -1)
        wanted = f"{database}/pkcs11.txt has owner 12345, expected root or the managing user as owner"
        assert refusal(machine, NEW.activate(manifest)) == wanted
        os.chown(database / "pkcs11.txt", 0, -1)
    known = theirs / "known.pem"
    known.write_text(OLD.certificate_pem)
    add = ("certutil", "-A", "-d", f"sql:{database}", "-n", "known", "-t", ",,", "-f", app / "pass")
    run(*add, "-i", known)
    assert "a certificate of the subject of keyrelay is there under another name" in refusal(
        machine, NEW.activate(manifest)
    )
    assert in_nss(database) == {"theirs": "u,u,u", "known": ",,"}


def test_a_certificate_of_the_chain_that_a_database_has_already_stays_as_it_is(
    machine: Machine, database: Path, tmp_path: Path
) -> None:
    (tmp_path / "issuer.pem").write_text(issuer().certificate.pem)
    add = (
        "certutil",
        "-A",
        "-d",
        f"sql:{database}",
        "-n",
        "mine",
        "-t",
        "C,,",
        "-i",
        tmp_path / "issuer.pem",
    )
    run(*add, "-f", database.parent / "pass")
    manifest = server_manifest(nss(database))
    machine.report(OLD.stage, OLD.activate(manifest))

    assert in_nss(database) == {"theirs": "u,u,u", "mine": "C,,", "keyrelay": "u,u,u"}
    assert not machine.report(OLD.activate(manifest)).changed
    assert machine.report(OLD.activate()).changed
    assert in_nss(database) == {"theirs": "u,u,u", "mine": "C,,"}


def in_java(keystore: Path) -> dict[str, tuple[str, list[str]]]:
    """The kind and the certificates of each entry of a keystore."""
    listing = run("keytool", "-list", "-rfc", "-keystore", keystore, "-storepass", PASSWORD)
    entries = re.findall(r"^Alias name: (\S+)$(.*?)(?=^Alias name: |\Z)", listing, re.MULTILINE | re.DOTALL)
    kinds = {name: re.findall(r"Entry type: (\S+)", text)[0] for name, text in entries}
    return {name: (kinds[name], digests(text)) for name, text in entries}


def java(keystore: Path, **arguments: object) -> Java:
    given: dict[str, object] = {"alias": "keyrelay", "holds": Holds.CREDENTIAL, "access": PRIVATE}
    given["password_file"] = f"{keystore.parent}/pass"
    return Java(keystore=f"{keystore}", **{**given, **arguments})  # type: ignore[arg-type]  # the test names Java's own arguments


def test_a_switch_replaces_the_key_in_a_keystore_of_java(machine: Machine, keystore: Path) -> None:
    manifest = server_manifest(java(keystore))
    theirs = in_java(keystore)
    machine.report(OLD.stage, OLD.activate(manifest), NEW.stage, NEW.activate(manifest))

    chain = [NEW.digest, *digests(issuer().certificate.pem)]
    assert in_java(keystore) == {**theirs, "keyrelay": ("PrivateKeyEntry", chain)}
    assert oct(keystore.stat().st_mode & 0o777) == "0o640"
    held, _, _ = surveyed(machine)
    assert states(held) == {f"{keystore} keyrelay": "intact"}
    assert places(held)[f"{keystore} keyrelay"].keys == (NEW.pair.public.spki_digest,)
    assert set(places(held)[f"{keystore} keyrelay"].certificates) == set(chain)

    before = facts(keystore)
    assert not machine.report(NEW.activate(manifest)).changed
    assert facts(keystore) == before

    remove = ("-keystore", keystore, "-storepass", PASSWORD)
    run("keytool", "-delete", "-alias", "keyrelay", *remove)
    held, _, _ = surveyed(machine)
    assert states(held) == {f"{keystore} keyrelay": "missing"}
    assert machine.report(NEW.activate(manifest)).changed
    assert in_java(keystore)["keyrelay"] == ("PrivateKeyEntry", chain)

    assert machine.report(NEW.activate()).changed
    assert in_java(keystore) == theirs


def test_a_keystore_of_the_older_kind_keeps_entries_that_have_passwords_of_their_own(
    machine: Machine, app: Path
) -> None:
    keystore = app / "old.jks"
    made = ("-keystore", keystore, "-storetype", "JKS", "-storepass", PASSWORD)
    mine = ("-alias", "mine", "-keyalg", "EC", "-dname", "CN=mine", "-keypass", "another password")
    run("keytool", "-genkeypair", *mine, *made)
    theirs = in_java(keystore)
    ed25519 = credential(CredentialId("7" * 32), Algorithm.ED25519)
    manifest = server_manifest(java(keystore))
    machine.report(OLD.stage, OLD.activate(manifest), ed25519.stage, ed25519.activate(manifest))

    chain = [ed25519.digest, *digests(issuer().certificate.pem)]
    assert in_java(keystore) == {**theirs, "keyrelay": ("PrivateKeyEntry", chain)}
    request = ("-alias", "mine", "-storepass", PASSWORD, "-keypass", "another password")
    assert "NEW CERTIFICATE REQUEST" in run("keytool", "-certreq", "-keystore", keystore, *request)
    request = ("-alias", "keyrelay", "-storepass", PASSWORD, "-keypass", PASSWORD)
    assert "NEW CERTIFICATE REQUEST" in run("keytool", "-certreq", "-keystore", keystore, *request)


def test_a_keystore_that_is_missing_is_made_and_goes_with_its_last_entry(machine: Machine, app: Path) -> None:
    keystore = app / "made.p12"
    (app / "pass").unlink()
    manifest = agent_manifest(java(keystore, holds=Holds.ANCHORS, access=PUBLIC), roots=(1, 2))
    machine.report(trust(manifest))

    password = (app / "pass").read_text().strip()
    listing = run("keytool", "-list", "-keystore", keystore, "-storepass", password)
    assert listing.count("trustedCertEntry") == 2
    assert oct((app / "pass").stat().st_mode & 0o777) == "0o600"
    assert oct(keystore.stat().st_mode & 0o777) == "0o644"
    _, held, _ = surveyed(machine)
    assert set(states(held).values()) == {"intact"}
    assert len(states(held)) == 2
    keystore.chmod(0o666)
    assert surveyed(machine)[2] == {f"{keystore}": "mode 666"}
    assert machine.report(trust(manifest)).changed
    assert (oct(keystore.stat().st_mode & 0o777), surveyed(machine)[2]) == ("0o644", {})
    machine.report(trust(agent_manifest(java(keystore, holds=Holds.ANCHORS, access=PUBLIC), roots=(2,)), 2))
    listing = run("keytool", "-list", "-keystore", keystore, "-storepass", password)
    assert listing.count("trustedCertEntry") == 1
    assert machine.report(trust("", 3)).changed
    assert list(app.iterdir()) == []


def test_what_a_keystore_refuses_is_known_before_anything_changes(
    machine: Machine, keystore: Path, app: Path
) -> None:
    machine.report(OLD.stage, OLD.activate(), NEW.stage)
    before = facts(keystore)
    assert f"the entry theirs in {keystore} is not keyrelay's" in refusal(
        machine, NEW.activate(server_manifest(java(keystore, alias="theirs")))
    )
    (app / "pass").write_text("not it\n")
    assert refusal(machine, NEW.activate(server_manifest(java(keystore)))) == (
        f"keytool cannot read {keystore}: keystore password was incorrect"
    )
    assert facts(keystore) == before


def test_entries_that_somebody_else_has_put_in_the_place_of_ours_are_not_removed(
    machine: Machine, keystore: Path, database: Path, theirs: Path
) -> None:
    machine.report(OLD.stage, OLD.activate(server_manifest(java(keystore))))
    made = ("-keystore", keystore, "-storepass", PASSWORD, "-alias", "keyrelay")
    run("keytool", "-delete", *made)
    run("keytool", "-genkeypair", "-keyalg", "EC", "-dname", "CN=another", *made)
    before = facts(keystore)
    reason = f"the entry keyrelay in {keystore} was changed by somebody else: rename or remove it"
    assert refusal(machine, OLD.activate()) == reason
    assert facts(keystore) == before
    run("keytool", "-delete", *made)
    machine.report(OLD.activate(server_manifest(nss(database))))

    run("certutil", "-F", "-d", f"sql:{database}", "-n", "keyrelay", "-f", database.parent / "pass")
    somebodys_entry(theirs, "keyrelay")
    import_theirs(database, theirs)
    entries = in_nss(database)
    reason = f"the entry keyrelay in {database} was changed by somebody else: rename or remove it"
    assert refusal(machine, OLD.activate()) == reason
    assert in_nss(database) == entries


def test_a_store_that_fails_after_the_switch_takes_the_host_back(
    machine: Machine, keystore: Path, database: Path
) -> None:
    manifest = server_manifest(java(keystore), nss(database))
    machine.report(OLD.stage, OLD.activate(manifest), NEW.stage)
    outcome = machine.run(NEW.activate(manifest, hook=hook("exit 3")))

    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith(f"the hook exited 3; back on {OLD.id}, and there the hook exited 3")
    assert in_java(keystore)["keyrelay"][1][0] == OLD.digest
    assert nss_certificates(database, "keyrelay") == [OLD.digest]
    held, _, _ = surveyed(machine)
    assert held is not None
    assert held.credential == OLD.id
    assert set(states(held).values()) == {"intact"}
