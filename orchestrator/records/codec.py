r"""An event as text, and a ledger entry's digest. Pure.

The text is JSON with sorted keys, no blanks and ASCII alone (``\u`` for the rest), so that equal events are
equal bytes whatever program wrote them. Instants are UTC with microseconds and ``Z``, durations ISO 8601
(``P1DT0.500000S``), fractions ``2/3``. Only the kinds of value named in ``_plain`` can be written at all:
anything else, a ``Secret`` above all, is a ``TypeError``.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.errors import KeyMaterialError
from orchestrator.records.framing import framed
from orchestrator.rotation.events import Entry, Event

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_EVENT: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="kind")],
    config=ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True),
)


def encode(event: Event) -> str:
    """The canonical text of an event; what it gives can be decoded to an equal event.

    Raises:
        TypeError: the event holds a value of a kind that is never written down, such as a secret.
        ValueError: it holds a value its field does not allow, an instant without a zone, or text that is not
            Unicode.
    """
    return _written(event)[0]


def decode(text: str) -> Event:
    """The event of a text.

    Raises:
        ValueError: damaged, an unknown kind or field, a missing field, a value of another type.
    """
    try:
        return _EVENT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {first['msg']}" if path else first["msg"]) from None
    except KeyMaterialError as error:
        raise ValueError(str(error)) from error


def digest(*, number: int, at: str, previous: str, event: str) -> str:
    """What an entry is known by: SHA-256 (hex) over its number, time, predecessor and event.

    Args:
        number: counts from 1.
        at: as ``write_instant`` gives it.
        previous: the digest of the entry before; empty for the first.
        event: as ``encode`` gives it.
    """
    columns = (str(number), at, previous, event)
    return hashlib.sha256(framed("keyrelay ledger entry 1", *map(_bytes, columns))).hexdigest()


def make_entry(event: Event, *, number: int, at: datetime, previous: str) -> tuple[Entry, str]:
    """The entry of an event, as it will be read back, and the event's canonical text.

    Raises:
        TypeError, ValueError: as ``encode``; ``at`` has no time zone.
    """
    text, event = _written(event)
    instant = write_instant(at)
    entry = Entry(
        number=number,
        at=read_instant(instant),
        event=event,
        previous=previous,
        digest=digest(number=number, at=instant, previous=previous, event=text),
    )
    return entry, text


def write_instant(at: datetime) -> str:
    """``at`` in UTC as ``2030-01-01T12:00:00.000000Z``; raises ``ValueError`` when it has no time zone."""
    if at.tzinfo is None:
        raise ValueError("an instant without a time zone")
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def read_instant(text: str) -> datetime:
    """The instant that ``write_instant`` wrote; raises ``ValueError`` for any other form."""
    if not _INSTANT.fullmatch(text):
        raise ValueError("not an instant such as 2030-01-01T12:00:00.000000Z")
    return datetime.fromisoformat(text)


def _written(event: Event) -> tuple[str, Event]:
    text = json.dumps(_plain(event), sort_keys=True, separators=(",", ":"), allow_nan=False)
    read = decode(text)
    if read != event:
        raise ValueError(f"a {event.kind} event would not be read back as it is")
    return text, read


def _plain(value: object) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case datetime():
            return write_instant(value)
        case timedelta():
            return _duration(value)
        case Fraction():
            return f"{value.numerator}/{value.denominator}"
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {_key(key): _plain(item) for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            raise TypeError(f"a {type(value).__name__} is never written into the ledger")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a {type(key).__name__} is never a name in the ledger")
    return key


def _duration(value: timedelta) -> str:
    size_us = value // timedelta(microseconds=1)
    days, rest = divmod(abs(size_us), 86_400_000_000)
    seconds, microseconds = divmod(rest, 1_000_000)
    return f"{'-' if size_us < 0 else ''}P{days}DT{seconds}.{microseconds:06}S"


def _bytes(column: str) -> bytes:
    # Bytes that are no UTF-8 arrive as lone surrogates (``database.py``) and must count as what they are.
    return column.encode("utf-8", "surrogateescape")
