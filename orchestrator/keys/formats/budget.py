"""How much work and room one file may cost to read, whoever made it.

A password-based file says itself how often its password has to be hashed, and a hostile one says 2^31 times.
What is asked is added up before any of it is done. The bounds leave room for what careful people choose:
twice the work that Java allows for one key, and sixteen times what keyrelay spends on one itself.
"""

from orchestrator.errors import TooCostlyError

MAX_FILE_BYTES = 1 << 20
"""So long may a file be; a private key with a chain has some thousands of octets."""

MAX_HASHES = 10_000_000
"""So many rounds of PBKDF2 or of PKCS #12 all derivations of one file may take together: some seconds."""

MAX_SCRYPT_BYTES = 1 << 28
"""So much memory may scrypt take, 128·N·r; and so much times its passes all in all."""

MAX_BCRYPT_ROUNDS = 512
"""So many rounds of bcrypt_pbkdf may an OpenSSH key take: some seconds."""

MAX_CERTIFICATES = 100
"""So many certificates and keys are looked for in one file."""


class Budget:
    """What reading one file has cost so far."""

    def __init__(self) -> None:
        self._hashes = 0
        self._bytes = 0

    def hash(self, rounds: int) -> None:
        """About to hash so often; raises ``TooCostlyError`` when that is too much."""
        self._hashes += rounds
        if self._hashes > MAX_HASHES:
            raise TooCostlyError(
                f"the file asks for {self._hashes} rounds of password hashing;"
                f" at most {MAX_HASHES} are spent",
                hint="write it again with fewer, with the program that it comes from",
            )

    def scrypt(self, *, n: int, r: int, p: int) -> None:
        """About to run scrypt (RFC 7914); raises ``TooCostlyError`` when that is too much."""
        self._bytes += 128 * n * r * p
        if self._bytes > MAX_SCRYPT_BYTES:
            raise TooCostlyError(
                f"the file asks for scrypt over {self._bytes} octets; at most {MAX_SCRYPT_BYTES} are spent"
            )

    def bcrypt(self, rounds: int) -> None:
        """About to run bcrypt_pbkdf; raises ``TooCostlyError`` when that is too much."""
        if rounds > MAX_BCRYPT_ROUNDS:
            raise TooCostlyError(
                f"the file asks for {rounds} rounds of bcrypt; at most {MAX_BCRYPT_ROUNDS} are spent",
                hint="write it again with fewer: ssh-keygen -p -a 64 -f FILE",
            )
