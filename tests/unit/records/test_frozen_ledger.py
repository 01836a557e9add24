"""A ledger that was written once, with every kind of event, and has to be readable for ever.

``ledger-1.jsonl`` is never made anew: what these entries mean is what homes hold. A new kind of event, or a
new field with a default, leaves them as they are; a renamed field breaks this test, and every home with it.
"""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from orchestrator.policy.stores import NO_STORES
from orchestrator.records import codec
from orchestrator.rotation.events import Entry, Event, RolloutStarted
from orchestrator.rotation.evolve import fold
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded

LEDGER = Path(__file__).parent / "ledger-1.jsonl"
LATER = {
    "crl-signed": (
        '{"added":[{"at":"2030-01-01T12:00:00.000000Z","ends":"2031-01-01T12:00:00.000000Z","issuer":"a1",'
        '"reason":"keyCompromise","serial":"b2"}],"digest":"c3","dropped":["d4"],"kind":"crl-signed",'
        '"next_update":"2030-01-08T12:00:00.000000Z","number":1}'
    ),
    "issuer-renewed": '{"certificate_pem":"-","kind":"issuer-renewed"}',
    "hosts-awaited": (
        '{"kind":"hosts-awaited","rollout":"3333333333333333","since":{"agent-1":"2030-01-01T12:00:00.000000Z"}}'
    ),
    "root-renewed": '{"certificate_pem":"-","kind":"root-renewed"}',
    "clock-set-right": '{"ahead":"2031-01-01T12:00:00.000000Z","kind":"clock-set-right"}',
    "key-prolonged": (
        '{"credential":"11111111111111111111111111111111","kind":"key-prolonged",'
        '"reason":"it waits for agent-1: off","until":"2031-01-01T12:00:00.000000Z"}'
    ),
    "controller-stopped": '{"kind":"controller-stopped","reason":"agent-1 follows another ledger"}',
    "backup-intended": (
        '{"automatic":true,"backup":"2222222222222222","keys":["11111111111111111111111111111111"],'
        '"kind":"backup-intended","path":"/shelf/one.backup"}'
    ),
    "backup-written": (
        '{"backup":"2222222222222222","digest":"ab","keys":[],"kind":"backup-written","size_bytes":9}'
    ),
    "backup-removed": '{"backup":"2222222222222222","kind":"backup-removed","reason":"5 are kept"}',
    "backups-kept": '{"folder":"/shelf","keep":5,"kind":"backups-kept","oldest":"P30DT0.000000S"}',
    "home-restored": (
        '{"backup":"","epoch":2,"generation":2,"kept":["11111111111111111111111111111111"],'
        '"kind":"home-restored","unmet":{"agent-1":"keys may come back"}}'
    ),
    "hosts-met": (
        '{"agents":["agent-2"],"armed":{"server-1":["11111111111111111111111111111111"]},"ended":{},'
        '"endpoints":{},"found":[],"hosts":["server-1"],"kind":"hosts-met","servers":{"server-2":"main"},'
        '"targets":{"server-1":null}}'
    ),
    "host-set-up-anew": (
        '{"gone":["11111111111111111111111111111111"],"host":"server-1","kind":"host-set-up-anew"}'
    ),
    "issuer-key-intended": '{"kind":"issuer-key-intended","record":"issuer-0123456789abcdef"}',
    "issuer-added": '{"certificate":"PEM","kind":"issuer-added","record":"issuer-0123456789abcdef"}',
    "issuer-key-destroyed": '{"kind":"issuer-key-destroyed","record":"issuer"}',
    "credential-prepared": (
        '{"grace":"P30DT0.000000S","imported":true,"in_flight":"P0DT360.000000S",'
        '"kind":"credential-prepared","new":{"delegated":false,"id":"22222222222222222222222222222222",'
        '"key":{"algorithm":"ed25519","exportable":false,"origin":"controller"},'
        '"not_after":"2031-01-01T12:00:00.000000Z","not_before":"2030-01-01T12:00:00.000000Z",'
        '"scope":"server:server-1","servers":["server-1"]},"playbook":"main"}'
    ),
    "credential-dropped": (
        '{"credential":"11111111111111111111111111111111","kind":"credential-dropped",'
        '"reason":"another key is made for its scope"}'
    ),
    "key-exported": (
        '{"copy":"0badcafe","credential":"11111111111111111111111111111111","encrypted":true,'
        '"file":"/tmp/key.p12","kind":"key-exported","purpose":"for the balancer"}'
    ),
    "export-destroyed": (
        '{"copy":"0badcafe","credential":"11111111111111111111111111111111","kind":"export-destroyed",'
        '"reason":"the disk was shredded"}'
    ),
}
"""Kinds that came after the file was written, each as it was first written down."""
INSTALLED = (
    '{"agent":[{"access":{"adopt":false,"group":"","mode":"644","owner":""},"anchors":"/a/ca","kind":"pem-anchors"},'
    '{"adopt":true,"kind":"system","name":"ours"},'
    '{"adopt":false,"database":"/n","holds":"anchors","kind":"nss","name":"ours","password_file":""},'
    '{"access":{"adopt":false,"group":"","mode":"644","owner":""},"file":"/a/conf","kind":"template"}],'
    '"server":[{"access":{"adopt":false,"group":"web","mode":"640","owner":"app"},"certificate":"/a/c","chain":"",'
    '"fullchain":"","key":"/a/k","kind":"pem"},'
    '{"access":{"adopt":false,"group":"","mode":"600","owner":""},"alias":"x","file":"/a/p12","kind":"pkcs12",'
    '"password_file":"/a/pw"},'
    '{"access":{"adopt":false,"group":"","mode":"600","owner":""},"alias":"x","holds":"credential",'
    '"keystore":"/a/ks","kind":"java","password_file":"/a/pw"}],'
    '"texts":{"agent-1":{"/a/conf":"one\\n"}}}'
)
"""What a play installs, with every kind of store, as it was first written down."""
HEAD = "b806aaaa153f9aa1dc123a585e54f9efaed4a66745e00a579da1182db3916abd"


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LEDGER.read_text(encoding="utf-8").splitlines()]


def entries() -> list[Entry]:
    return [
        Entry(
            number=row["number"],
            at=codec.read_instant(row["at"]),
            event=codec.decode(row["event"]),
            previous=row["previous"],
            digest=row["digest"],
        )
        for row in rows()
    ]


def test_it_holds_every_kind_of_event() -> None:
    kinds = {kind.__dataclass_fields__["kind"].default for kind in get_args(Event)}
    assert {entry.event.kind for entry in entries()} == kinds - LATER.keys()


@pytest.mark.parametrize("kind", LATER)
def test_a_later_kind_of_event_is_read_as_it_was_written(kind: str) -> None:
    event = codec.decode(LATER[kind])
    assert event.kind == kind
    assert json.loads(codec.encode(event)).items() >= json.loads(LATER[kind]).items()


def test_its_chain_holds_over_the_words_as_they_were_written() -> None:
    previous = ""
    for row, entry in zip(rows(), entries(), strict=True):
        told = codec.digest(number=entry.number, at=row["at"], previous=previous, event=row["event"])
        assert (entry.previous, entry.digest) == (previous, told)
        previous = told
    assert previous == HEAD


def test_it_adds_up_to_the_fleet_that_it_was() -> None:
    recorded = fold(Recorded(), entries())
    assert recorded.head == HEAD
    assert Counter(c.state for c in recorded.credentials.values()) == {
        KeyState.REMOVED: 14,
        KeyState.ACTIVE: 2,
        KeyState.COMPROMISED: 1,
    }
    assert {host for host in recorded.endpoints if recorded.given_up(host)} == {"server-3"}
    assert recorded.lease is None
    assert (dict(recorded.server_stores), dict(recorded.agent_stores)) == ({}, {})
    assert all(desired.stores == NO_STORES for desired in recorded.playbooks.values())


def test_commands_by_which_services_sign_are_read_as_they_were_written() -> None:
    row = next(row for row in rows() if '"kind":"rollout-started"' in row["event"])
    written = json.loads(row["event"])
    written["desired"] |= {"prove_commands": {"server-1": "ask"}, "prove_within": "P0DT30.000000S"}
    event = codec.decode(json.dumps(written))
    assert isinstance(event, RolloutStarted)
    assert event.desired.prove_commands == {"server-1": "ask"}
    assert event.desired.prove_within == timedelta(seconds=30)
    again = json.loads(codec.encode(event))["desired"]
    assert [again[field] for field in ("prove_commands", "prove_within")] == [
        {"server-1": "ask"},
        "P0DT30.000000S",
    ]


def test_what_a_play_installs_is_read_as_it_was_written() -> None:
    row = next(row for row in rows() if '"kind":"rollout-started"' in row["event"])
    written = json.loads(row["event"])
    written["desired"]["stores"] = json.loads(INSTALLED)
    event = codec.decode(json.dumps(written))
    assert isinstance(event, RolloutStarted)
    assert [store.kind for store in event.desired.stores.server] == ["pem", "pkcs12", "java"]
    assert [store.kind for store in event.desired.stores.agent] == [
        "pem-anchors",
        "system",
        "nss",
        "template",
    ]
    now = json.loads(INSTALLED)
    now["server"][0]["combined"] = ""  # came later
    assert json.loads(codec.encode(event))["desired"]["stores"] == now
