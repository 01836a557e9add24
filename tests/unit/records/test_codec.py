import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from fractions import Fraction
from types import NoneType, UnionType
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.keys.bundle import Position
from orchestrator.keys.material import Algorithm, PublicKey, generate
from orchestrator.records import codec
from orchestrator.rotation import events as ev
from orchestrator.rotation.recorded import TrustLine
from orchestrator.rotation.reports import Changed, Unreachable
from orchestrator.rotation.visits import Challenge, CredentialId, Stage
from tests.fakes import NOON, SeededEntropy

KINDS: tuple[type, ...] = get_args(ev.Event)
DESTROYED = ev.KeyDestroyed(credential=CredentialId("0" * 32))
PUBLIC = [generate(algorithm, random=SeededEntropy(algorithm)).public for algorithm in Algorithm]

_numbers = st.integers(0, 2**53 - 1)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_some_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_instants = st.none() | st.datetimes(timezones=st.just(UTC))
_LEAVES: Mapping[object, st.SearchStrategy[Any]] = {
    NoneType: st.none(),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63),
    str: _text,
    datetime: st.datetimes(timezones=st.just(UTC)),
    timedelta: st.timedeltas(),
    Fraction: st.fractions(),
    PublicKey: st.sampled_from(PUBLIC),
    Position: st.builds(Position, epoch=_numbers, sequence=_numbers),
    TrustLine: st.one_of(
        st.builds(TrustLine, server=_text, credential=_some_text, since=_instants),
        st.builds(TrustLine, server=_text, issuer=_some_text, since=_instants),
    ),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, by the few kinds of type that events are made of."""
    if hint in _LEAVES:
        return _LEAVES[hint]
    match get_origin(hint), get_args(hint):
        case (None, _) if isinstance(hint, NewType):
            return values_of(hint.__supertype__)
        case (None, _) if is_dataclass(hint):
            hints = get_type_hints(hint)
            return st.builds(hint, **{field.name: values_of(hints[field.name]) for field in fields(hint)})  # type: ignore[arg-type]  # a class
        case (None, _) if issubclass(hint, Enum):
            return st.sampled_from(hint)
        case (origin, options) if origin is Literal:
            return st.sampled_from(options)
        case (origin, options) if origin in (Union, UnionType):
            return st.one_of(*map(values_of, options))
        case (origin, (item, end)) if origin is tuple and end is Ellipsis:
            return st.lists(values_of(item), max_size=3).map(tuple)
        case (origin, items) if origin is tuple:
            return st.tuples(*map(values_of, items))
        case (origin, (key, value)) if issubclass(origin, Mapping):
            return st.dictionaries(values_of(key), values_of(value), max_size=3)
        case _:
            raise TypeError(f"events hold no {hint}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@given(data=st.data())
def test_every_event_is_read_back_as_it_was_written(kind: type, data: st.DataObject) -> None:
    event = data.draw(values_of(kind))

    written = codec.encode(event)

    assert codec.decode(written) == event
    assert codec.encode(codec.decode(written)) == written
    assert written.isascii()


def test_the_text_is_sorted_dense_and_ascii() -> None:
    event = ev.HostsSurveyed(surveys={}, failures={"élan": "no\nroute", "a": ""})  # type: ignore[dict-item]  # a HostName is a str

    assert codec.encode(event) == (
        r'{"failures":{"a":"","\u00e9lan":"no\nroute"},"kind":"hosts-surveyed","surveys":{}}'
    )


def test_instants_durations_and_fractions_have_one_form_each() -> None:
    skewed = Changed(host="oak", reports=(), skew=-timedelta(days=1, microseconds=5))  # type: ignore[arg-type]  # a HostName is a str

    assert '"skew":"-P1DT0.000005S"' in codec.encode(ev.VisitsEnded(outcomes=(skewed,)))
    assert codec.write_instant(datetime(2030, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))) == (
        "2030-01-01T12:00:00.000000Z"
    )


@given(at=st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_read_back_as_it_was_written(at: datetime) -> None:
    assert codec.read_instant(codec.write_instant(at)) == at


@pytest.mark.parametrize(
    "text",
    ["2030-01-01T12:00:00Z", "2030-01-01T12:00:00.000000+00:00", "2030-13-01T12:00:00.000000Z", "", "now"],
)
def test_an_instant_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"instant|month"):
        codec.read_instant(text)


def test_no_order_and_no_secret_is_ever_written_down() -> None:
    private = generate(Algorithm.ED25519, random=SeededEntropy()).private
    challenge = Challenge(fleet="orchard", server="oak", nonce="00")  # type: ignore[arg-type]  # a HostName is a str
    stage = Stage(
        credential=CredentialId("0" * 32),
        certificate_pem="",
        chain_pem="",
        challenge=challenge,
        algorithm=Algorithm.ED25519,
        private_key=private,
    )

    for smuggled in (stage, private, replace(stage, private_key=None)):
        with pytest.raises((TypeError, ValueError)) as caught:
            codec.encode(ev.VisitsEnded(outcomes=(smuggled,)))  # type: ignore[arg-type]  # what must not work
        assert "PRIVATE" not in str(caught.value)
    with pytest.raises(TypeError, match="a Secret is never written"):
        codec.encode(replace(DESTROYED, credential=private))  # type: ignore[arg-type]  # what must not work


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    kind: str = "odd"


@pytest.mark.parametrize(
    "event",
    [
        Odd(),
        replace(DESTROYED, credential=b"\0"),  # type: ignore[arg-type]  # what must not work
        replace(DESTROYED, credential=1.5),  # type: ignore[arg-type]
        replace(DESTROYED, credential=None),  # type: ignore[arg-type]
        replace(DESTROYED, credential="\ud800"),  # type: ignore[arg-type]
        ev.HostsSurveyed(surveys={}, failures={1: "x"}),  # type: ignore[dict-item]
        ev.VisitsEnded(outcomes=[Unreachable(host="oak", reason="")]),  # type: ignore[arg-type]
    ],
    ids=["another class", "bytes", "a float", "None", "half a character", "a number as name", "a list"],
)
def test_a_value_that_does_not_belong_is_refused(event: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        codec.encode(event)


def test_a_naive_instant_in_an_event_is_refused() -> None:
    new = ev.NewCredential(
        id=CredentialId("0"),
        scope="all",  # type: ignore[arg-type]  # a ScopeName is a str
        key=None,  # type: ignore[arg-type]  # never reached
        servers=(),
        not_before=NOON.replace(tzinfo=None),
        not_after=NOON,
    )
    with pytest.raises(ValueError, match="without a time zone"):
        codec.encode(new)  # type: ignore[arg-type]  # a part of an event, on its own


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"kind":"key-lost","credential":"0"}', "key-lost"),
        ('{"credential":"0"}', "kind"),
        ('{"kind":"key-destroyed"}', "credential"),
        ('{"kind":"key-destroyed","credential":"0","more":1}', "more"),
        ('{"kind":"key-destroyed","credential":0}', "string"),
        (
            '{"kind":"visits-ended","outcomes":[{"kind":"unreachable","host":"a","reason":"b","x":1}]}',
            "outcomes",
        ),
        ('{"kind":"key-made","credential":"0","public":{"pem":"none"}}', "key"),
        ("{", "JSON"),
        ("", "JSON"),
        ("[]", "object|dictionary|kind"),
    ],
)
def test_what_is_not_wholly_known_is_not_read(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        codec.decode(text)


def test_the_digest_is_that_of_the_documented_form() -> None:
    framed = b"".join(
        len(field).to_bytes(8, "big") + field
        for field in (b"keyrelay ledger entry 1", b"7", b"t", b"p", b"{}")
    )
    found = codec.digest(number=7, at="t", previous="p", event="{}")

    assert found == hashlib.sha256(framed).hexdigest()
    assert found == "3867feee7f246dea8e5985fbaa510d48918a7402dc589fcbd5d3819ddbf71d61"


@given(one=st.tuples(_numbers, _text, _text, _text), other=st.tuples(_numbers, _text, _text, _text))
def test_other_columns_have_another_digest(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    names = ("number", "at", "previous", "event")
    digests = [codec.digest(**dict(zip(names, columns, strict=True))) for columns in (one, other)]

    assert (digests[0] == digests[1]) == (one == other)


def test_columns_that_run_together_have_another_digest() -> None:
    assert codec.digest(number=1, at="ab", previous="c", event="") != codec.digest(
        number=1, at="a", previous="bc", event=""
    )
