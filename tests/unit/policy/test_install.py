"""The section ``install:`` of a play: what it becomes, and what is refused where it stands."""

from pathlib import Path

import pytest

from orchestrator.cli.plays import load_plays
from orchestrator.errors import InputError
from orchestrator.inventory.model import HostName
from orchestrator.policy.desired import Desired
from orchestrator.policy.install import stores_of
from orchestrator.policy.scopes import cut
from orchestrator.policy.stores import (
    Access,
    Holds,
    Java,
    Nss,
    PemAnchors,
    PemFiles,
    Pkcs12,
    Rendered,
    Stores,
    System,
)
from tests.unit.policy.worlds import GOOD, error_of, inventory_of, read


def installing(*entries: str, algorithm: str = "ecdsa-p256") -> str:
    """A playbook whose first entry of ``install`` stands in line 7."""
    listed = "".join(f"    - {entry}\n" for entry in entries)
    return f"{GOOD}  install:\n{listed}  key: {{algorithm: {algorithm}}}\n"


def stores(*entries: str) -> Stores:
    (play,) = read(installing(*entries))
    return stores_of(play.install)


def test_the_credential_goes_to_servers_and_anchors_to_agents() -> None:
    found = stores(
        '{store: pem, key: /a/k, certificate: /a/c, owner: app, group: web, mode: "0640"}',
        "{store: pkcs12, file: /a/p12, password_file: /a/pass, alias: web, adopt: yes}",
        "{store: nss, database: /etc/pki/app}",
        "{store: java, keystore: /a/ks, password_file: /a/pass}",
        "{store: nss, database: /etc/pki/app, name: roots, holds: anchors, password_file: /a/nss.pass}",
        "{store: java, keystore: /a/trust, password_file: /a/pass, holds: anchors}",
        "{store: system}",
        "{store: pem, anchors: /a/ca.pem}",
    )
    private = Access(mode="600")
    assert found.server == (
        PemFiles(key="/a/k", certificate="/a/c", access=Access(owner="app", group="web", mode="640")),
        Pkcs12(file="/a/p12", password_file="/a/pass", alias="web", access=Access(mode="600", adopt=True)),
        Nss(database="/etc/pki/app", name="keyrelay", holds=Holds.CREDENTIAL),
        Java(
            keystore="/a/ks",
            password_file="/a/pass",
            alias="keyrelay",
            holds=Holds.CREDENTIAL,
            access=private,
        ),
    )
    assert found.agent == (
        Nss(database="/etc/pki/app", name="roots", holds=Holds.ANCHORS, password_file="/a/nss.pass"),
        Java(
            keystore="/a/trust",
            password_file="/a/pass",
            alias="keyrelay",
            holds=Holds.ANCHORS,
            access=Access(mode="644"),
        ),
        System(name="keyrelay"),
        PemAnchors(anchors="/a/ca.pem", access=Access(mode="644")),
    )


def test_a_play_without_the_section_installs_nothing() -> None:
    (play,) = read(GOOD)
    assert stores_of(play.install) == Stores()


def test_files_in_pem_without_the_key_are_for_everybody() -> None:
    (store,) = stores("{store: pem, certificate: /a/c}").server
    assert store == PemFiles(certificate="/a/c", access=Access(mode="644"))


def test_a_file_with_the_key_and_the_chain_is_for_its_owner() -> None:
    (store,) = stores("{store: pem, combined: /a/b}").server
    assert store == PemFiles(combined="/a/b", access=Access(mode="600"))


PEM = "store: pem, key: /a/k"


@pytest.mark.parametrize(
    ("entry", "message", "hint"),
    [
        (
            "{store: windows}",
            "7:15: install[0].store is 'windows'; allowed: pem, pkcs12, nss, java, system, ",
            "",
        ),
        ("{store: pkcs, file: /a}", "7:15: install[0].store is 'pkcs'; allowed: pem", "did you mean pkcs12?"),
        ("{store: 7}", "7:15: install[0].store is 7; allowed: pem, ", ""),
        ("{key: /a/k}", "7:7: install[0].store is missing; allowed: pem, pkcs12, ", ""),
        ("pem", "7:7: install[0] is 'pem'; allowed: ", ""),
        (
            f"{{{PEM}, ownr: app}}",
            "unknown field 'ownr' in install[0]; allowed here: owner, group, mode, adopt, store, key, ",
            "did you mean owner?",
        ),
        (
            "{store: pkcs12, password_file: /a}",
            "7:7: install[0].file is missing; allowed: an absolute path",
            "",
        ),
        ("{store: pem, key: tls.key}", "7:25: install[0].key is 'tls.key'; allowed: an absolute path", ""),
        ("{store: pem, key: /a/../k}", "install[0].key is '/a/../k'; allowed: an absolute path", ""),
        ("{store: pem, key: /a//k}", "install[0].key is '/a//k'; allowed: an absolute path", ""),
        ("{store: pem, key: /a/k/}", "install[0].key is '/a/k/'; allowed: an absolute path", ""),
        ('{store: pem, key: "/a/$(x)"}', "install[0].key is '/a/$(x)'; allowed: an absolute path", ""),
        (
            f"{{{PEM}, mode: 0640}}",
            "install[0].mode is 0640, which YAML did not read as text",
            "write it quoted",
        ),
        (f'{{{PEM}, mode: "0660"}}', "install[0].mode is '0660'; allowed: a mode in quotes", ""),
        (f'{{{PEM}, mode: "0644"}}', 'install[0]: mode is "0644", by which everybody may read', ""),
        ('{store: pem, combined: /a/b, mode: "0444"}', 'mode is "0444", by which everybody may read', ""),
        (f"{{{PEM}, owner: a b}}", "install[0].owner is 'a b'; allowed: the name of an account", ""),
        (f"{{{PEM}, adopt: maybe}}", "install[0].adopt is 'maybe'; allowed: yes, no", ""),
        ("{store: pem}", "install[0]: it names no file; allowed: one or more of key,", "an entry for each"),
        (
            f"{{{PEM}, anchors: /a/ca}}",
            "install[0]: it has both anchors and parts of the",
            "an entry for each",
        ),
        (
            "{store: nss, database: /d, holds: key}",
            "install[0].holds is 'key'; allowed: credential, anchors",
            "",
        ),
        (
            "{store: nss, database: /d, adopt: yes}",
            "7:41: install[0]: adopt is yes, and NSS could not give back the entry of a server whose ",
            "give this one another name",
        ),
        (
            "{store: java, keystore: /k, password_file: /p, alias: Web}",
            "install[0].alias is 'Web'; allowed: a name of at most 64 small letters",
            "",
        ),
        (
            "{store: template, template: no.j2, file: /a}",
            "7:35: template is 'no.j2': there is no such file",
            "",
        ),
    ],
)
def test_a_wrong_entry_is_refused_at_its_place_with_what_is_allowed(
    entry: str, message: str, hint: str
) -> None:
    refused = error_of(installing(entry))
    assert message in refused.message
    assert hint in refused.hint


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        ("{store: pem, key: /a/k}", "{store: pem, fullchain: /a/k}", "/a/k"),
        ("{store: pem, key: /a/k}", "{store: pem, anchors: /a/k}", "/a/k"),
        ("{store: pkcs12, file: /f, password_file: /p}", "{store: pem, key: /p}", "/p"),
        ("{store: nss, database: /d}", "{store: nss, database: /d, holds: anchors}", "/d keyrelay"),
        ("{store: nss, database: /d}", "{store: pem, key: /d/key4.db}", "/d/key4.db"),
        ("{store: java, keystore: /d/k, password_file: /d/p}", "{store: nss, database: /d}", "/d/k keyrelay"),
        ("{store: system}", "{store: system, name: keyrelay}", "system keyrelay"),
        ("{store: java, keystore: /k, password_file: /p}", "{store: pem, key: /k}", "/k"),
    ],
)
def test_two_entries_that_would_undo_each_other_are_refused(one: str, other: str, place: str) -> None:
    refused = error_of(installing(one, other))
    assert f"writes to {place}, where another entry writes" in refused.message


def test_entries_of_one_keystore_and_files_of_one_password_stand_beside_each_other() -> None:
    assert stores(
        "{store: java, keystore: /k, password_file: /p}",
        "{store: java, keystore: /k, password_file: /p, alias: roots, holds: anchors}",
        "{store: pkcs12, file: /f, password_file: /p}",
        "{store: nss, database: /d, password_file: /d/pin}",
        "{store: pem, key: /d-of-another/k}",
    )


def test_no_key_is_put_into_nss_that_it_does_not_take() -> None:
    refused = error_of(installing("{store: nss, database: /d}", algorithm="ed25519"))
    assert "7:7: install[0] puts a key of key.algorithm ed25519 into NSS" in refused.message
    assert refused.message.endswith("ecdsa-p256, rsa-3072")
    assert read(installing("{store: nss, database: /d, holds: anchors, adopt: yes}", algorithm="ed25519"))
    assert read(installing("{store: nss, database: /d}", algorithm="rsa-3072"))


def test_a_list_is_not_longer_than_a_host_takes() -> None:
    entries = [f"{{store: system, name: n{number}}}" for number in range(17)]
    assert stores(*entries[:16])
    refused = error_of(installing(*entries))
    assert "install is a list of 17 entries; allowed: a list of 1 to 16 stores" in refused.message


@pytest.mark.parametrize("path", ["/etc/keyrelay/server/tls.key", "/etc/keyrelay", "/etc"])
def test_nothing_is_put_into_keyrelays_own_folder(path: str) -> None:
    (play,) = read(installing(f"{{store: pem, key: {path}}}"))
    with pytest.raises(
        InputError, match=r"7:7: install\[0\] names .* keyrelay_base of host .* allowed: a path"
    ):
        cut(play, inventory_of({"servers": ["s1"], "agents": ["a1"]}), digest="")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hosts.yml").write_text(
        "servers: {hosts: {s1: {port: 8443}, s2: {port: 9443, name: two}}}\n"
        "agents: {hosts: {a1: {port: 1}, s2: }}\n"
    )
    (tmp_path / "app.conf.j2").write_text(
        "listen {{ port }}\n{% if name is defined %}name {{ name }}\n{% endif %}key {{ keyrelay_base }}/k"
    )
    return tmp_path


def desired(folder: Path, entry: str, *, template: str | None = None) -> Desired:
    if template is not None:
        (folder / "app.conf.j2").write_text(template)
    (folder / "p.yml").write_text(installing(entry))
    (play,) = load_plays([folder / "p.yml"], [folder / "hosts.yml"])
    return play.desired


def template_on(where: str) -> str:
    return f"{{store: template, template: app.conf.j2, file: /etc/app.conf, hosts: {where}}}"


def test_a_template_beside_the_playbook_becomes_a_text_for_each_host(folder: Path) -> None:
    found = desired(folder, template_on("servers")).stores
    assert found.server == (Rendered(file="/etc/app.conf", access=Access(mode="644")),)
    assert found.agent == ()
    assert found.texts == {
        "s1": {"/etc/app.conf": "listen 8443\nkey /etc/keyrelay/k\n"},
        "s2": {"/etc/app.conf": "listen 9443\nname two\nkey /etc/keyrelay/k\n"},
    }


@pytest.mark.parametrize(
    ("where", "hosts"), [("servers", ["s1", "s2"]), ("agents", ["a1", "s2"]), ("all", ["a1", "s1", "s2"])]
)
def test_a_template_is_made_for_the_hosts_that_are_to_have_it(
    folder: Path, where: str, hosts: list[str]
) -> None:
    assert sorted(desired(folder, template_on(where)).stores.texts) == hosts


def test_a_value_stands_in_a_file_as_it_is(folder: Path) -> None:
    found = desired(folder, template_on("servers"), template="it's {{ port }} \"quoted\" {{ 'a' ~ port }}\n")
    assert found.stores.texts[HostName("s1")] == {"/etc/app.conf": 'it\'s 8443 "quoted" a8443\n'}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ secret }}", "template 'app.conf.j2' for host s1 cannot be made: 'secret' is undefined"),
        ("{% for x in [1] %}{% endfor %}", "template 'app.conf.j2' is refused: found a template's for"),
        ("{{ port.bit_length() }}", "template 'app.conf.j2' is refused: found a template's call"),
        ("{{ port", "template 'app.conf.j2' is no template"),
        ("a\r\n", "template 'app.conf.j2' is refused: it has characters that cannot be printed"),
        ("{% if port == 0 %}x{% endif %}", "template 'app.conf.j2' for host s1 is blank"),
        ("x" * 16_001, "it is 16001 characters long; allowed: 1 to 16000"),
    ],
)
def test_a_template_that_cannot_be_rendered_safely_is_refused(
    folder: Path, template: str, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        desired(folder, template_on("servers"), template=template)
    assert message in refused.value.message
    assert f"{folder}/p.yml:7:35" in refused.value.message


def test_a_template_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "app.conf.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="which is no text in UTF-8"):
        desired(folder, template_on("servers"))
