"""Who certifies an order: the one that its playbook names, or else the fleet's own issuer."""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from orchestrator.errors import IssuerError
from orchestrator.issuers.command import CommandIssuer
from orchestrator.issuers.program import HTTP_01, Program
from orchestrator.keys.material import Random
from orchestrator.policy.desired import AcmeSpec, CommandSpec, IssuerSpec
from orchestrator.ports import CertificateOrder, Issued, Issuer, Vault


def why_not(spec: IssuerSpec | None) -> str:
    """Why the program that an issuer needs could not be run, without running it; empty: nothing is known."""
    match spec:
        case None:
            return ""
        case CommandSpec():
            return CommandIssuer(spec=spec).program.why_not()
        case AcmeSpec():
            return Program(argv=spec.publish, timeout=spec.timeout, what=HTTP_01).why_not()
        case _:
            assert_never(spec)


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
