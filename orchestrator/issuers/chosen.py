"""Who certifies an order: the one that its playbook names, or else the fleet's own issuer."""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from orchestrator.errors import IssuerError
from orchestrator.issuers.command import CommandIssuer
from orchestrator.keys.material import Random
from orchestrator.policy.desired import AcmeSpec, CommandSpec
from orchestrator.ports import CertificateOrder, Issued, Issuer, Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenIssuer:
    """Passes each order on.

    Attributes:
        own: the fleet's own issuer.
        vault: keeps the keys of accounts at ACME servers.
        random: gives them.
    """

    own: Issuer
    vault: Vault
    random: Random

    def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
        """Has the key of a request certified by whom the order names.

        Raises:
            IssuerError: that issuer cannot.
            KeyMaterialError: the request is damaged, unproven, or asks for other names.
        """
        match order.issuer:
            case None:
                return self.own.issue(order, now=now)
            case CommandSpec():
                return CommandIssuer(spec=order.issuer).issue(order, now=now)
            case AcmeSpec():
                return self._by_acme(order.issuer).issue(order, now=now)
            case _:
                assert_never(order.issuer)

    def _by_acme(self, spec: AcmeSpec) -> Issuer:
        try:
            from orchestrator.issuers.acme import AcmeIssuer  # noqa: PLC0415 - an optional part
        except ImportError as error:
            raise IssuerError(
                f"the ACME server {spec.directory} cannot be asked: the package acme is not installed",
                hint="pip install 'keyrelay[acme]'",
            ) from error
        return AcmeIssuer(spec=spec, vault=self.vault, random=self.random)
