"""From the octets of a file to the keys and certificates in it."""

import re

from orchestrator.errors import TooCostlyError, UnsupportedFileError
from orchestrator.keys.formats import der
from orchestrator.keys.formats.binary import Shape, read_binary, shape_of
from orchestrator.keys.formats.budget import MAX_FILE_BYTES, Budget
from orchestrator.keys.formats.contents import Contents
from orchestrator.keys.formats.jose import is_compact, read_compact, read_json
from orchestrator.keys.formats.openssh import PUBLIC_BEGINNINGS, read_openssh_public
from orchestrator.keys.formats.pem import BEGIN, read_pem
from orchestrator.keys.formats.pkcs12 import read_pkcs12
from orchestrator.keys.secret import Secret

FORMATS = "PEM, DER, PKCS #8, PKCS #12, JWK, JWK Set, OpenSSH"
"""What is read, for people."""

_FIRST_LINE = re.compile(rb"\A(?:\s*#[^\n]*\n|\s+)*(?P<word>[^\s#]+)")


def read(data: bytes, password: Secret | None = None) -> Contents:
    """The keys and certificates of a file; what it is is found out from what is in it.

    Args:
        data: the whole file.
        password: if it should be encrypted; otherwise it is not looked at.

    Raises:
        TooCostlyError: too long, or too much work (``budget.py``).
        UnsupportedFileError: no format that is read, or an algorithm that is not.
        DamagedFileError: a format that is read, and not sound.
        PasswordNeededError, WrongPasswordError: it is encrypted, and ``password`` does not open it.
        UnsupportedKeyError: a key with which nothing is signed.
        KeyMismatchError: a JWK with another key's certificate.
    """
    if len(data) > MAX_FILE_BYTES:
        raise TooCostlyError(f"the file is longer than {MAX_FILE_BYTES} octets; no file of keys is")
    budget = Budget()
    if BEGIN in data:
        return read_pem(data, password, budget)
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return read_json(data)
    if is_compact(data):
        return read_compact(data, password, budget)
    first = _FIRST_LINE.match(data)
    if first is not None and first["word"].startswith(PUBLIC_BEGINNINGS):
        return read_openssh_public(data)
    if data.startswith(b"\x30"):
        value = der.parse(data)
        if shape_of(value) is Shape.PKCS12:
            return read_pkcs12(value, password, budget)
        return read_binary(value, password, budget)
    if not data.strip():
        raise UnsupportedFileError("the file is empty")
    raise UnsupportedFileError(f"the file is in no format of keys that keyrelay reads; it reads {FORMATS}")
