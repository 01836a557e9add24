"""RC2 (RFC 2268), backwards only: old PKCS #12 files have their certificates under it, with 40 bits.

It protects nothing. No library here offers it with so short a key, and a file that somebody has to carry
over today was often written with it.
"""

_PI_TABLE = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2"
    "179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82"
    "54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7"
    "08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec"
    "c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)
_MASK = 0xFFFF
_ROTATIONS = (1, 2, 3, 5)


def decrypt_rc2(key: bytes, iv: bytes, locked: bytes) -> bytes:
    """Decrypts in CBC mode; as many bits as the key has are effective.

    Args:
        key: 5 to 16 octets.
        iv: 8 octets.
        locked: a multiple of 8 octets.
    """
    schedule = _schedule(key)
    text = bytearray()
    for at in range(0, len(locked), 8):
        block = locked[at : at + 8]
        text += bytes(a ^ b for a, b in zip(_decrypted(block, schedule), iv, strict=True))
        iv = block
    return bytes(text)


def _schedule(key: bytes) -> tuple[int, ...]:
    """RFC 2268 section 2."""
    size = len(key)
    table = bytearray(key + bytes(128 - size))
    for at in range(size, 128):
        table[at] = _PI_TABLE[(table[at - 1] + table[at - size]) & 0xFF]
    table[128 - size] = _PI_TABLE[table[128 - size]]
    for at in range(127 - size, -1, -1):
        table[at] = _PI_TABLE[table[at + 1] ^ table[at + size]]
    return tuple(int.from_bytes(table[at : at + 2], "little") for at in range(0, 128, 2))


def _decrypted(block: bytes, schedule: tuple[int, ...]) -> bytes:
    """RFC 2268 section 4: five mixing rounds, a mashing round, six, one, and five."""
    words = [int.from_bytes(block[at : at + 2], "little") for at in range(0, 8, 2)]
    left = 64
    for rounds in (5, 6, 5):
        for _ in range(rounds):
            for at in (3, 2, 1, 0):
                left -= 1
                turn = _ROTATIONS[at]
                word = (words[at] >> turn | words[at] << 16 - turn) & _MASK
                before, further, opposite = words[at - 1], words[at - 2], words[at - 3]
                words[at] = (word - schedule[left] - (before & further) - (~before & opposite)) & _MASK
        if left:
            for at in (3, 2, 1, 0):
                words[at] = (words[at] - schedule[words[at - 1] & 63]) & _MASK
    return b"".join(word.to_bytes(2, "little") for word in words)
