"""Manifests: what one host has to do for its stores, as one text with one digest."""

import hashlib

import pytest

from orchestrator.policy.stores import (
    Access,
    Holds,
    Java,
    Nss,
    PemAnchors,
    PemFiles,
    Pkcs12,
    Rendered,
    Store,
    System,
    certificates_of,
    digest_of,
    entry_of,
    key_places,
    make_manifest,
    places,
)

ONE = "-----BEGIN CERTIFICATE-----\nMIIB\nAAA=\n-----END CERTIFICATE-----\n"
TWO = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"
OURS = Access(mode="640", owner="app", group="web", adopt=True)
PLAIN = Access(mode="600")

EVERY_KIND: tuple[Store, ...] = (
    PemFiles(key="/etc/app/tls.key", certificate="/etc/app/tls.crt", access=OURS),
    Pkcs12(file="/etc/app/s.p12", password_file="/etc/app/p12.pass", alias="keyrelay", access=PLAIN),
    Nss(database="/etc/pki/app", name="keyrelay", holds=Holds.CREDENTIAL),
    Java(
        keystore="/etc/app/k", password_file="/etc/app/k.pass", alias="a", holds=Holds.ANCHORS, access=PLAIN
    ),
    System(name="keyrelay-fleet", adopt=True),
    PemAnchors(anchors="/etc/app/ca.pem", access=Access(mode="644")),
    Rendered(file="/etc/app/app.conf", access=Access(mode="644")),
)


def manifest(*stores: Store) -> str:
    texts = {"/etc/app/app.conf": "one\n\nthree\n"}
    return make_manifest(entry_of(store, anchors=ONE + TWO, texts=texts) for store in stores)


def test_a_manifest_has_a_line_for_each_store_and_what_is_to_be_in_it() -> None:
    assert manifest(*EVERY_KIND) == (
        "keyrelay stores 1\n"
        "store java anchors keystore=/etc/app/k password_file=/etc/app/k.pass alias=a mode=600 lines=7\n"
        f"{ONE}{TWO}"
        "store nss credential database=/etc/pki/app name=keyrelay\n"
        f"store pem anchors anchors=/etc/app/ca.pem mode=644 lines=7\n{ONE}{TWO}"
        "store pem credential key=/etc/app/tls.key certificate=/etc/app/tls.crt "
        "owner=app group=web mode=640 adopt=yes\n"
        "store pkcs12 credential file=/etc/app/s.p12 password_file=/etc/app/p12.pass alias=keyrelay "
        "mode=600\n"
        f"store system anchors name=keyrelay-fleet adopt=yes lines=7\n{ONE}{TWO}"
        "store template text file=/etc/app/app.conf mode=644 lines=3\none\n\nthree\n"
    )


def test_the_order_in_a_playbook_is_no_part_of_it() -> None:
    assert manifest(*EVERY_KIND) == manifest(*reversed(EVERY_KIND))


def test_a_host_without_stores_has_no_manifest_and_no_digest() -> None:
    assert (manifest(), digest_of(manifest())) == ("", "")


def test_a_manifest_is_known_by_the_digest_of_its_bytes() -> None:
    text = manifest(*EVERY_KIND)
    assert digest_of(text) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("one", EVERY_KIND, ids=lambda store: f"{store.kind}")
def test_whatever_a_store_says_is_part_of_its_digest(one: Store) -> None:
    others = tuple(store for store in EVERY_KIND if store is not one)
    assert digest_of(manifest(*others)) != digest_of(manifest(*EVERY_KIND))


def test_only_certificates_are_taken_out_of_a_file_of_anchors_each_once() -> None:
    text = f"Root of ours\n{ONE}\r\n# spare\n{TWO}{ONE}".replace("\n", "\r\n")
    assert certificates_of(text) == (ONE, TWO)


def test_a_store_is_named_by_the_first_thing_that_it_may_write_to() -> None:
    assert [places(store)[0] for store in EVERY_KIND] == [
        "/etc/app/tls.key",
        "/etc/app/s.p12",
        "/etc/pki/app keyrelay",
        "/etc/app/k a",
        "system keyrelay-fleet",
        "/etc/app/ca.pem",
        "/etc/app/app.conf",
    ]


def test_every_file_of_the_credential_is_a_place_of_its_own() -> None:
    store = PemFiles(key="/a", chain="/b", fullchain="/c", combined="/d", access=PLAIN)
    assert places(store) == ("/a", "/b", "/c", "/d")
    assert key_places(store) == ("/a", "/d")


def test_a_template_without_a_text_for_the_host_is_a_fault_of_this_program() -> None:
    with pytest.raises(KeyError):
        entry_of(EVERY_KIND[-1], anchors="", texts={})


def test_two_plays_that_ask_for_the_same_ask_for_it_once() -> None:
    assert manifest(EVERY_KIND[4], EVERY_KIND[4]) == manifest(EVERY_KIND[4])
