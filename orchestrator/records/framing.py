"""Several fields as one byte string that can be read in one way only.

Whatever is hashed or authenticated goes through here: each field is preceded by its length, so no two
lists of fields share an encoding, and the first field names what the bytes are for, so no two uses do.
"""

_LENGTH_BYTES = 8


def framed(domain: str, *fields: bytes) -> bytes:
    """``domain`` and ``fields``, each after its length in 8 bytes, big-endian."""
    return b"".join(
        len(field).to_bytes(_LENGTH_BYTES, "big") + field for field in (domain.encode("ascii"), *fields)
    )
