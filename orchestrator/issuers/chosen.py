"""Who certifies an order: the one that its playbook names, or else the fleet's own issuer."""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from orchestrator.issuers.command import CommandIssuer
from orchestrator.policy.desired import CommandSpec
from orchestrator.ports import CertificateOrder, Issued, Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenIssuer:
    """Passes each order on.

    Attributes:
        own: the fleet's own issuer.
    """

    own: Issuer

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
            case _:
                assert_never(order.issuer)
