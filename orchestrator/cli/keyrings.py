"""Where the authority's keys are opened: in the home, or in a token, as the ledger says.

``python-pkcs11`` is asked for only where there is a token.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli import passphrases
from orchestrator.cli.machine import system_entropy
from orchestrator.errors import UsageError, VaultError
from orchestrator.keys.authority import ISSUER_KEY, ROOT_KEY
from orchestrator.keys.secret import Secret
from orchestrator.keys.token import Token
from orchestrator.ports import Vault
from orchestrator.records.home_keys import HomeKeys

if TYPE_CHECKING:
    from orchestrator.issuers.token import TokenKeys

MODULE_VARIABLE = "KEYRELAY_PKCS11_MODULE"
"""Names the token's library where it lies elsewhere than on the machine that founded the fleet."""

PIN_VARIABLE = "KEYRELAY_PIN_FILE"


def home_keys(vault: Vault, root_file: Path, ask_root: Callable[[], Secret]) -> HomeKeys:
    """The keys that lie in a home: the root's in a sealed file of its own, others in the vault."""
    return HomeKeys(vault=vault, root_file=root_file, ask_root=ask_root, random=system_entropy)


def found_token(module: str, label: str) -> Token:
    """The token of that label.

    Raises:
        UsageError: ``python-pkcs11`` is not installed.
        VaultError: the library cannot be loaded, or there is no such token, or several.
    """
    with _needing_pkcs11():
        from orchestrator.issuers.token import find_token  # noqa: PLC0415 - an optional part

    return find_token(module, label)


@contextmanager
def token_keys(token: Token, pin_file: Path | None, *, fleet: str) -> Iterator["TokenKeys"]:
    """The keys that lie in a token; the terminal is asked for its PIN where no file has it.

    Raises:
        UsageError: there is no PIN, or ``python-pkcs11`` is not installed.
        VaultError: the token is not there, or does not let us in.
    """
    with _needing_pkcs11():
        from orchestrator.issuers.token import open_token  # noqa: PLC0415 - an optional part

    here = replace(token, module=os.environ.get(MODULE_VARIABLE) or token.module)
    pin = passphrases.obtain(pin_file, what=f"the token {token.label!r} (its PIN)", option="--pin-file")
    with open_token(here, pin, fleet=fleet) as keys:
        yield keys


@contextmanager
def new_token_keys(token: Token, pin_file: Path | None, *, fleet: str) -> Iterator["TokenKeys"]:
    """The same for a fleet that is being founded: when that fails, the token is left as it was.

    Raises:
        UsageError, VaultError: as ``token_keys``.
    """
    with token_keys(token, pin_file, fleet=fleet) as keys:
        try:
            yield keys
        except BaseException:
            for name in (ROOT_KEY, ISSUER_KEY):
                with suppress(VaultError):
                    keys.destroy(name)
            raise


@contextmanager
def _needing_pkcs11() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(
            "the authority's keys are in a token, and python-pkcs11 is not installed",
            hint="pip install 'keyrelay[hsm]'",
        ) from error
