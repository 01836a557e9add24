"""A private key's bytes, wrapped so that they cannot leave by accident.

Logs, tracebacks, tables, JSON encoders and pickles all reach a value through ``repr``, ``str``, ``format``,
iteration or ``__reduce__``. ``Secret`` gives none of them anything: the bytes come out by one method
alone, and ``grep -rn 'reveal()'`` lists every place where one does.
"""

import hmac
from typing import NoReturn, SupportsIndex, final


@final
class Secret:
    """Bytes that show themselves only to ``reveal()``.

    It is no ``str`` and no ``bytes``, so it cannot be quoted, joined or interpolated: ``str`` and ``repr``
    are redacted, ``format`` (and so an f-string), copying and pickling raise ``TypeError``. Two secrets are
    compared in constant time, and a secret never equals anything else. It has no hash and no length.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a secret wraps bytes, not {type(data).__name__}")
        self._data = data

    def reveal(self) -> bytes:
        """The bytes themselves, for the one call that needs them; never keep or show the result."""
        return self._data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._data, other._data)

    __hash__ = None  # type: ignore[assignment]  # a hash would be a trace of the bytes

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, format_spec: str) -> NoReturn:
        raise TypeError("a secret cannot be formatted")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret cannot be copied or pickled")
