"""The authority's keys in the home itself: the root's in a sealed file of its own, others in the vault."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import VaultError
from orchestrator.keys.authority import AUTHORITY_ALGORITHM, ROOT_KEY
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import Random, generate, load_private, open_signer
from orchestrator.keys.secret import Secret
from orchestrator.ports import Vault
from orchestrator.records.sealed_file import open_file, seal_file


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeKeys:
    """Makes and opens keys that lie on the controller's disk, sealed.

    Attributes:
        vault: keeps all keys but the root's.
        root_file: the root's sealed file (``sealed_file``).
        ask_root: gives the root's passphrase; called only when the root's key is made or used.
        random: gives keys.
    """

    vault: Vault
    root_file: Path
    ask_root: Callable[[], Secret]
    random: Random

    def make(self, name: str) -> Signer:
        """A new key, kept durably; what an attempt that was cut short has left in the vault is replaced.

        Raises:
            VaultError: it cannot be kept, or there is a root's file already.
            UsageError: there is no passphrase for the root.
        """
        private = generate(AUTHORITY_ALGORITHM, random=self.random).private
        if name == ROOT_KEY:
            seal_file(self.root_file, private, self.ask_root(), purpose=name, random=self.random)
        else:
            self.vault.destroy(name)
            self.vault.put(name, name, private)
        return open_signer(private)

    def open(self, name: str) -> Signer:
        """The key of that name.

        Raises:
            VaultError: there is none, it does not open, or the passphrase is wrong.
            UsageError: there is no passphrase for the root.
        """
        if name == ROOT_KEY:
            return open_signer(load_private(open_file(self.root_file, self.ask_root(), purpose=name)).private)
        return open_signer(self.vault.open(name, name))

    def destroy(self, name: str) -> None:
        """Removes a key from the vault; idempotent.

        Raises:
            VaultError: it is the root's, which only a person removes, or the vault cannot be written.
        """
        if name == ROOT_KEY:
            raise VaultError("the root's key is removed by hand, with its file")
        self.vault.destroy(name)
