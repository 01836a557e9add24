"""The kinds of value that stand in a playbook's fields: text, a choice, yes or no, a duration, a fraction.

Each kind says what it allows, refuses everything else in the same words, and describes itself in JSON
Schema. A scalar that YAML did not read as text (``yes``, ``007``) is never taken for text.

A refusal is a ``PydanticCustomError`` of type ``refused`` whose context has a ``hint`` and a ``tail``: what
follows "<field> is <what was found>" in the sentence that ``refusals.py`` completes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import (
    no_info_plain_validator_function,
    plain_serializer_function_ser_schema,
)

from orchestrator.policy.desired import Share
from orchestrator.policy.durations import (
    DURATION_FORM,
    FRACTION_FORM,
    format_duration,
    parse_duration,
    parse_fraction,
)

_PERCENTAGE_FORM = "^([1-9][0-9]?|100)%$"
_PERCENTAGE = re.compile(_PERCENTAGE_FORM, re.ASCII)
_PROCEED = "proceed-after "


def refused(tail: str, *, hint: str = "") -> PydanticCustomError:
    """The refusal of a field's value; see the module for its words."""
    return PydanticCustomError("refused", "{tail}", {"tail": tail, "hint": hint})


def contradiction(message: str, *, at: tuple[str | int, ...], hint: str = "") -> PydanticCustomError:
    """Fields that do not fit together; ``at`` is the path of the one to show, from the section on."""
    return PydanticCustomError("contradiction", "{message}", {"message": message, "at": at, "hint": hint})


def given(value: Any) -> Any:
    """Refuse an empty field where leaving it out means something."""
    if value is None:
        raise refused("; leave it out, or give it a value")
    return value


def _plain(read: Callable[[Any], Any], write: Callable[[Any], Any]) -> CoreSchema:
    return no_info_plain_validator_function(read, serialization=plain_serializer_function_ser_schema(write))


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Printable text, neither blank nor framed by blanks.

    Attributes:
        most: characters.
        what: what the text is, for "allowed: …".
        lines: whether it may have several lines; then blanks may frame it too.
    """

    most: int
    what: str
    lines: bool = False

    @property
    def allowed(self) -> str:
        """For an error."""
        return f"{self.what}, 1 to {self.most} characters" + ("" if self.lines else " on one line")

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, str)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return self.json_schema()

    def json_schema(self) -> JsonSchemaValue:
        """The same in JSON Schema, as near as it can say it."""
        return {"type": "string", "minLength": 1, "maxLength": self.most}

    def _read(self, value: Any) -> str:
        text = _text(value, self.allowed)
        shape = text.replace("\n", "").replace("\t", "") if self.lines else text
        framed = not self.lines and text != text.strip()
        if not text.strip() or framed or not shape.isprintable() or len(text) > self.most:
            raise refused(f"; allowed: {self.allowed}")
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Text of one form.

    Attributes:
        form: a regular expression from ``^`` to ``$``, in what JavaScript and Python share.
        most: characters.
        what: what the text is, for "allowed: …".
    """

    form: str
    most: int
    what: str

    @property
    def allowed(self) -> str:
        """For an error."""
        return self.what

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, str)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": self.form, "maxLength": self.most}

    def _read(self, value: Any) -> str:
        text = _text(value, self.allowed)
        if len(text) > self.most or text.endswith("\n") or not re.search(self.form, text, re.ASCII):
            raise refused(f"; allowed: {self.allowed}")
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One of a few words."""

    choices: type[StrEnum]

    @property
    def allowed(self) -> str:
        """For an error."""
        return ", ".join(self.choices)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, str)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "enum": [str(choice) for choice in self.choices]}

    def _read(self, value: Any) -> StrEnum:
        text = _text(value, self.allowed)
        try:
            return self.choices(text)
        except ValueError:
            raise refused(f"; allowed: {self.allowed}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class YesOrNo:
    """What YAML 1.1 reads as true or false."""

    @property
    def allowed(self) -> str:
        """For an error."""
        return "yes, no"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, bool)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "boolean"}

    def _read(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise refused(f"; allowed: {self.allowed}")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A duration between two bounds, both included."""

    least: timedelta
    most: timedelta

    @property
    def allowed(self) -> str:
        """For an error."""
        least, most = format_duration(self.least), format_duration(self.most)
        return f"a duration such as 30d, 12h or 1h30m, from {least} to {most}"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, format_duration)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": DURATION_FORM}

    def _read(self, value: Any) -> timedelta:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise refused(
                f", a number without a unit; allowed: {self.allowed}",
                hint="add the unit: d days, h hours, m minutes, s seconds",
            )
        text = _text(value, self.allowed)
        try:
            duration = parse_duration(text)
        except ValueError:
            raise refused(
                f"; allowed: {self.allowed}",
                hint="units are d, h, m and s, the largest first and without blanks",
            ) from None
        if not self.least <= duration <= self.most:
            raise refused(f"; allowed: {self.allowed}")
        return duration


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOfWhole:
    """A fraction between 0 and 1, neither included; kept exactly."""

    @property
    def allowed(self) -> str:
        """For an error."""
        return "a fraction between 0 and 1, such as 2/3 or 0.5"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, str)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "anyOf": [
                {"type": "string", "pattern": FRACTION_FORM},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            ]
        }

    def _read(self, value: Any) -> Fraction:
        # YAML reads 0.1 as a float; its shortest decimal form is what was written.
        text = str(value) if isinstance(value, float) else _text(value, self.allowed)
        try:
            return parse_fraction(text)
        except ValueError:
            raise refused(f"; allowed: {self.allowed}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of the servers: a count from 1, or a percentage from 1% to 100%."""

    @property
    def allowed(self) -> str:
        """For an error."""
        return "a number of servers such as 1, or a percentage such as 25%, from 1% to 100%"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, str)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return self.json_schema()

    def json_schema(self) -> JsonSchemaValue:
        """The same in JSON Schema."""
        return {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _PERCENTAGE_FORM}]}

    def _read(self, value: Any) -> Share:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return Share(number=value)
        if isinstance(value, str) and _PERCENTAGE.fullmatch(value) and not value.endswith("\n"):
            return Share(number=int(value[:-1]), percent=True)
        quoted = isinstance(value, str) and value.isdecimal()
        raise refused(f"; allowed: {self.allowed}", hint="write the number without quotes" if quoted else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long something is waited for: for good (``block``, which is None), or for a duration.

    Attributes:
        duration: between which bounds that is.
    """

    duration: Duration

    @property
    def allowed(self) -> str:
        """For an error."""
        return f"block, or {_PROCEED}and {self.duration.allowed}"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain(self._read, lambda found: "block" if found is None else _proceed(found))

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^(block|{_PROCEED}{DURATION_FORM[1:-1]})$"}

    def _read(self, value: Any) -> timedelta | None:
        text = _text(value, self.allowed)
        if text == "block":
            return None
        try:
            duration = parse_duration(text.removeprefix(_PROCEED)) if text.startswith(_PROCEED) else None
        except ValueError:
            duration = None
        if duration is None or not self.duration.least <= duration <= self.duration.most:
            raise refused(f"; allowed: {self.allowed}")
        return duration


def _proceed(after: timedelta) -> str:
    return f"{_PROCEED}{format_duration(after)}"


def _text(value: Any, allowed: str) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (dict, list)):
        raise refused(f"; allowed: {allowed}")
    raise refused(f", which YAML did not read as text; allowed: {allowed}", hint="write it quoted: {quoted}")
