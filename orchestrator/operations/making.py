"""No operation: how a handover comes by its keys: made here or asked for, certified, and put into orders."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.inventory.model import HostName
from orchestrator.keys.authority import make_request, read_request
from orchestrator.keys.material import KeyPair, PublicKey, generate, load_private
from orchestrator.operations.issuing import issued
from orchestrator.operations.lease import wants_renewal
from orchestrator.operations.tenure import Tenure
from orchestrator.ports import Ports
from orchestrator.rotation import visits as vs
from orchestrator.rotation.events import Event, KeyMade, KeyMakingIntended
from orchestrator.rotation.reports import Generated
from orchestrator.rotation.visits import CredentialId

PURPOSE = "credential"
"""What the vault keeps credentials' private keys for."""


class Making:
    """The keys of one run.

    Attributes:
        unmade: servers whose new key cannot be used, with the reason.
        unissued: servers whose key in use the issuer does not certify anew, with the reason.
    """

    def __init__(self, tenure: Tenure, ports: Ports) -> None:
        self.unmade: dict[HostName, str] = {}
        self.unissued: dict[HostName, str] = {}
        self._tenure = tenure
        self._ports = ports

    def make(self, credentials: Sequence[CredentialId]) -> None:
        """Make keys on the controller; one that an earlier run put into the vault is taken again."""
        if not self._tenure.intend([KeyMakingIntended(credential=credential) for credential in credentials]):
            return
        for credential in credentials:
            if not self._ports.vault.holds(credential):
                algorithm = self._tenure.recorded.credentials[credential].key.algorithm
                pair = generate(algorithm, random=self._ports.entropy)
                self._ports.vault.put(credential, PURPOSE, pair.private)
        self._tenure.record([KeyMade(credential=c, public=self._pair(c).public) for c in credentials])

    def certify(self, wanted: Sequence[tuple[CredentialId, HostName]]) -> None:
        """Have keys certified; a server whose key the issuer refuses is put aside, the others go on."""
        certified: list[Event] = []
        try:
            for credential, server in wanted:
                request = make_request(self._pair(credential), names=(server,))
                try:
                    recorded = self._tenure.recorded
                    certified.append(issued(self._ports, recorded, credential, server, request))
                except IssuerError as error:
                    self._refused(credential, server, error)
                if certified and wants_renewal(self._tenure.recorded, self._ports):
                    due, certified = certified, []
                    self._tenure.record(due)
                self._tenure.renew()
        finally:
            if certified:
                self._tenure.record(certified)

    def take_request(self, server: HostName, report: Generated) -> None:
        """Certify a key that was made on a server: its request proves that the server has it."""
        try:
            public = read_request(report.request_pem, names=(server,)).public
            if reason := self._why_not(report.credential, public):
                self.unmade[server] = reason
                return
            recorded = self._tenure.recorded
            certified = issued(self._ports, recorded, report.credential, server, report.request_pem)
        except KeyMaterialError as error:
            self.unmade[server] = f"its request for a certificate is wrong: {error.message}"
            return
        except IssuerError as error:
            self._refused(report.credential, server, error)
            return
        made = KeyMade(credential=report.credential, public=public)
        known = recorded.credentials[report.credential].public
        self._tenure.record([certified] if known is not None else [made, certified])

    def with_key(self, order: vs.Order) -> vs.Order:
        """The order with its private key, where the controller has it."""
        if isinstance(order, vs.Stage) and self._ports.vault.holds(order.credential):
            return replace(order, private_key=self._ports.vault.open(order.credential, PURPOSE))
        return order

    def _pair(self, credential: CredentialId) -> KeyPair:
        return load_private(self._ports.vault.open(credential, PURPOSE))

    def _refused(self, credential: CredentialId, server: HostName, error: IssuerError) -> None:
        """The issuer has refused: a new key cannot go on, and one in use ends when it ends."""
        if server in self._tenure.recorded.credentials[credential].uncertified:
            self.unissued[server] = f"the issuer does not certify its key in use anew: {error.message}"
        else:
            self.unmade[server] = f"the issuer does not certify its key: {error.message}"

    def _why_not(self, credential: CredentialId, public: PublicKey) -> str:
        """Why a key that a server has made is not certified as this credential; empty: it is."""
        credentials = self._tenure.recorded.credentials
        if any(one.public == public for one in credentials.values() if one.id != credential):
            return "the key it made is not new: another credential has it already"
        if credentials[credential].public not in {None, public}:
            return "it has another key under this name than the one it made before"
        return ""
