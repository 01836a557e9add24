"""Everything that can go wrong, as one tree: what happened, and what to do next.

A message names the host or the file and line it is about, what was found and what was expected.
The hint, kept apart, says what the reader can do. Foreign exceptions are mapped to this tree once, at
the edge where they arise. A host's failure is no exception but an outcome (``rotation/reports.py``).
"""

import traceback
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a document something stands; ``line`` and ``column`` count from 1, 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


class KeyrelayError(Exception):
    """Something keyrelay will not or cannot do.

    Attributes:
        message: one sentence: what happened, to what, expected and found.
        hint: what to do next, or empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KeyrelayError):
    """The command line asks for something that does not exist or does not fit together (exit 2)."""


class InputError(KeyrelayError):
    """A file the user wrote is wrong (exit 2); names the place, what was found and what is allowed."""

    def __init__(self, message: str, *, place: Place, hint: str = "") -> None:
        super().__init__(f"{place}: {message}", hint=hint)
        self.place = place


class KeyMaterialError(KeyrelayError):
    """A key, certificate, CSR or sealed secret is damaged, weak, or does not belong where it was put."""


class UnsupportedFileError(KeyMaterialError):
    """A file is in no format that keyrelay reads, or holds nothing that is looked for in it."""


class DamagedFileError(KeyMaterialError):
    """A file begins as one of a known format and is not one: cut off, changed, or malformed."""


class TooCostlyError(KeyMaterialError):
    """To read a file would take more room or work than keyrelay spends on one."""


class PasswordNeededError(KeyMaterialError):
    """A file is encrypted, and no password was given."""


class WrongPasswordError(KeyMaterialError):
    """A file is encrypted under another password."""


class UnsupportedKeyError(KeyMaterialError):
    """A key is sound, but of a kind or size that keyrelay does not hand over."""


class WeakKeyError(KeyMaterialError):
    """A key, or the signature on a certificate, is too weak to be relied on."""


class KeyMismatchError(KeyMaterialError):
    """A private key and a certificate do not belong together."""


class ChainError(KeyMaterialError):
    """Certificates do not make a chain, or the chain does not hold."""


class ExpiredCertificateError(KeyMaterialError):
    """A certificate is not valid any more."""


class NotYetValidError(KeyMaterialError):
    """A certificate is not valid yet."""


class VaultError(KeyrelayError):
    """The vault cannot be opened, or a record in it cannot be read."""


class WrongPassphraseError(VaultError):
    """The passphrase does not open what it was given for."""


class BackupError(KeyrelayError):
    """A backup cannot be written, or what claims to be one is not to be believed."""


class LedgerError(KeyrelayError):
    """The ledger is missing, damaged, or newer than this program."""


class StoppedError(KeyrelayError):
    """The run was asked to end before it had begun to change anything."""


class ConflictError(KeyrelayError):
    """Another controller wrote first, or what was agreed to has changed meanwhile (S8)."""


class RefusedError(KeyrelayError):
    """keyrelay refuses because doing it would orphan an agent or break a rule of the policy."""


class IssuerError(KeyrelayError):
    """The issuer cannot or will not certify a key."""


class LabError(KeyrelayError):
    """The lab cannot be started or stopped on this machine."""


def told_fault(error: BaseException) -> str:
    """A fault of this program; its own words may quote anything, so only its kind and its place are told."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    return f"this is a fault in keyrelay: {type(error).__name__} at {place}"
