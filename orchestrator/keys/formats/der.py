"""The outermost grammar of ASN.1 in BER and DER (ITU-T X.690), as far as key files need it.

Reading takes BER, because NSS writes PKCS #12 with indefinite lengths and strings in pieces; it is bounded in
depth and in the number of values. Writing gives DER.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import DamagedFileError, TooCostlyError

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x05, 0x06, 0x30, 0x31
CONTEXT_0, PRIMITIVE_0 = 0xA0, 0x80
"""The tag [0], over values and over octets."""

_CONSTRUCTED = 0x20
_LONG_TAG = 0x1F
_INDEFINITE = 0x80
_MAX_LENGTH_OCTETS = 4
_MAX_DEPTH = 40
_MAX_VALUES = 20_000
_MAX_INTEGER_OCTETS = 2050
_MAX_OID_OCTETS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value: its tag, and either its octets or the values in it.

    Attributes:
        tag: the identifier octet; tags beyond 30 are not read.
        octets: of a primitive value; empty otherwise.
        parts: of a constructed value; empty otherwise.
        whole: the encoding as it was read, tag and length included.
    """

    tag: int
    octets: bytes
    parts: tuple["Value", ...]
    whole: bytes

    def has(self, *tags: int) -> bool:
        """Whether it begins with values of these tags."""
        return tuple(part.tag for part in self.parts[: len(tags)]) == tags

    def part(self, index: int, tag: int) -> "Value":
        """A value in it; raises ``DamagedFileError`` where there is none of that tag."""
        if index >= len(self.parts) or self.parts[index].tag != tag:
            raise DamagedFileError("a value that has to be there is missing or of another kind")
        return self.parts[index]

    def integer(self) -> int:
        """Its number; raises ``DamagedFileError`` unless it is an INTEGER that is not negative."""
        if self.tag != INTEGER or not self.octets or self.octets[0] & 0x80:
            raise DamagedFileError("expected a number that is not negative")
        if len(self.octets) > _MAX_INTEGER_OCTETS:
            raise TooCostlyError(
                f"a number of {len(self.octets)} octets; at most {_MAX_INTEGER_OCTETS} are read"
            )
        return int.from_bytes(self.octets, "big")

    def oid(self) -> str:
        """Its object identifier with dots; raises ``DamagedFileError`` where it is none."""
        if self.tag != OID or not self.octets or self.octets[-1] & 0x80:
            raise DamagedFileError("expected an object identifier")
        if len(self.octets) > _MAX_OID_OCTETS:
            raise DamagedFileError("an object identifier that is longer than any")
        numbers, number = [], 0
        for octet in self.octets:
            number = number << 7 | octet & 0x7F
            if not octet & 0x80:
                numbers.append(number)
                number = 0
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))

    def string(self) -> bytes:
        """The octets of an OCTET STRING, put together where it is in pieces; raises ``DamagedFileError``."""
        if self.tag in {OCTET_STRING, PRIMITIVE_0}:
            return self.octets
        if self.tag in {OCTET_STRING | _CONSTRUCTED, CONTEXT_0}:
            return b"".join(part.string() for part in self.parts)
        raise DamagedFileError("expected a string of octets")


def parse(data: bytes) -> Value:
    """The one value that ``data`` is.

    Raises:
        DamagedFileError: it is none, or something follows it.
        TooCostlyError: it is nested too deeply, or consists of too many values.
    """
    reader = _Reader(data)
    value, end = reader.read(0, len(data), 0)
    if end != len(data):
        raise DamagedFileError(f"{len(data) - end} octets follow the end of the ASN.1 value")
    return value


def encode(tag: int, *parts: bytes) -> bytes:
    """A value in DER: the tag, the length, the parts one after the other."""
    content = b"".join(parts)
    size = len(content)
    if size < _INDEFINITE:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _INDEFINITE | len(octets))) + octets + content


def encode_integer(number: int) -> bytes:
    """An INTEGER that is not negative."""
    return encode(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def encode_oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    first, second, *others = map(int, dotted.split("."))
    return encode(OID, *(_base128(number) for number in (40 * first + second, *others)))


def _base128(number: int) -> bytes:
    octets = [number & 0x7F]
    while number := number >> 7:
        octets.append(number & 0x7F | 0x80)
    return bytes(reversed(octets))


class _Reader:
    """One pass over an encoding, which counts what it meets."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MAX_VALUES

    def read(self, start: int, limit: int, depth: int) -> tuple[Value, int]:
        """The value at ``start``, which ends at ``limit`` at the latest, and where it ends."""
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            raise TooCostlyError(
                f"more than {_MAX_VALUES} values of ASN.1, or more than {_MAX_DEPTH} in one another"
            )
        tag = self._octet(start, limit)
        if tag & _LONG_TAG == _LONG_TAG:
            raise DamagedFileError("an ASN.1 tag that no key file has")
        length, begin = self._length(start + 1, limit)
        if length is None:
            if not tag & _CONSTRUCTED:
                raise DamagedFileError("an ASN.1 value without a length")
            return self._indefinite(tag, start, begin, limit, depth)
        end = begin + length
        if end > limit:
            raise DamagedFileError(f"the ASN.1 value at octet {start} is cut off")
        parts: Sequence[Value] = ()
        if tag & _CONSTRUCTED:
            parts = self._parts(begin, end, depth)
        return self._value(tag, start, begin, end, end, parts), end

    def _parts(self, begin: int, end: int, depth: int) -> list[Value]:
        parts: list[Value] = []
        while begin < end:
            part, begin = self.read(begin, end, depth + 1)
            parts.append(part)
        return parts

    def _indefinite(self, tag: int, start: int, begin: int, limit: int, depth: int) -> tuple[Value, int]:
        parts: list[Value] = []
        while self._data[begin : begin + 2] != b"\x00\x00":
            part, begin = self.read(begin, limit, depth + 1)
            parts.append(part)
        if begin + 2 > limit:
            raise DamagedFileError(f"the ASN.1 value at octet {start} is cut off")
        return self._value(tag, start, begin, begin, begin + 2, parts), begin + 2

    def _value(
        self, tag: int, start: int, begin: int, content_end: int, end: int, parts: Sequence[Value]
    ) -> Value:
        octets = b"" if tag & _CONSTRUCTED else self._data[begin:content_end]
        return Value(tag=tag, octets=octets, parts=tuple(parts), whole=self._data[start:end])

    def _length(self, at: int, limit: int) -> tuple[int | None, int]:
        first = self._octet(at, limit)
        if first == _INDEFINITE:
            return None, at + 1
        if not first & _INDEFINITE:
            return first, at + 1
        count = first & 0x7F
        if count > _MAX_LENGTH_OCTETS or at + 1 + count > limit:
            raise DamagedFileError(f"the length of the ASN.1 value at octet {at - 1} is none")
        return int.from_bytes(self._data[at + 1 : at + 1 + count], "big"), at + 1 + count

    def _octet(self, at: int, limit: int) -> int:
        if at >= limit:
            raise DamagedFileError("the ASN.1 value is cut off")
        return self._data[at]
