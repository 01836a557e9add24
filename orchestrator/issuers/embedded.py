"""The issuer that lives in the fleet's own home: its key is in the vault, and it works unattended.

It may be renewed or replaced while a handover runs, so which one certifies is asked for each certificate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.keys.authority import Authority, certify
from orchestrator.keys.material import Random, SpkiDigest
from orchestrator.ports import CertificateOrder, Issued


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedIssuer:
    """Certifies with an authority that somebody else opened.

    Attributes:
        opened: gives an issuer of the fleet's, its certificate and its opened key; for None the one that
            certifies now.
        random: gives serial numbers.
    """

    opened: Callable[[SpkiDigest | None], Authority]
    random: Random

    def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
        """Certifies the key of a request, which proves its possession and names only the host's names.

        Raises:
            IssuerError: this issuer is not valid now, or would expire before the certificate; says until
                when it can certify.
            KeyMaterialError: the request is damaged, unproven, or asks for other names.
        """
        authority = self.opened(order.by)
        certificate = certify(
            authority,
            request_pem=order.request_pem,
            names=order.names,
            now=now,
            not_after=order.not_after,
            backdate=order.backdate,
            random=self.random,
        )
        return Issued(certificate_pem=certificate.pem, chain_pem=authority.certificate.pem)
