"""The issuer that is a program on the controller: a request goes in on stdin, a chain comes out on stdout.

The program is named by its path in the playbook and gets its arguments as they are written there; there is no
shell. Of the controller's environment it sees nothing; what is wanted of it stands in variables of its own.
What it answers is believed only as far as it can be checked (``keys/foreign.py``).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.issuers.program import Program
from orchestrator.keys.authority import read_request
from orchestrator.keys.foreign import Expected, accept, parse_roots
from orchestrator.policy.desired import CommandSpec
from orchestrator.ports import CertificateOrder, Issued

LATE = timedelta(days=1)
"""How far beyond what was asked a certificate may end, since many programs count whole days or hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandIssuer:
    """Has keys certified by a program.

    Attributes:
        spec: the program, the roots its chains end at, and how long it may take.
    """

    spec: CommandSpec

    def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
        """Has the key of a request certified.

        The program's environment is ``PATH``, ``LC_ALL=C``, and: ``KEYRELAY_NAMES``, comma between them;
        ``KEYRELAY_NOT_BEFORE`` and ``KEYRELAY_NOT_AFTER``, the period as ``20300101120000Z``.

        Raises:
            IssuerError: the program cannot be run, fails, takes too long, says too much, or answers something
                other than what was asked for. Names it.
            KeyMaterialError: the request is damaged, unproven, or asks for other names.
        """
        request = read_request(order.request_pem, names=order.names)
        begin, end = _second(now - order.backdate), _second(order.not_after)
        environment = {
            "KEYRELAY_NAMES": ",".join(order.names),
            "KEYRELAY_NOT_BEFORE": f"{begin:%Y%m%d%H%M%SZ}",
            "KEYRELAY_NOT_AFTER": f"{end:%Y%m%d%H%M%SZ}",
        }
        program = self.program
        answer = program.run(request.pem.encode("ascii"), environment)
        expected = Expected(
            public=request.public,
            names=order.names,
            at=now,
            begins_by=begin,
            ends_from=end,
            ends_by=end + LATE,
        )
        try:
            accepted = accept(answer, expected, parse_roots(self.spec.root))
        except KeyMaterialError as error:
            raise IssuerError(
                f"{program.name} answered what is not used: {error.message}",
                hint="the program is told names and times in its environment: KEYRELAY_NAMES and others",
            ) from error
        return Issued(certificate_pem=accepted.certificate.pem, chain_pem=accepted.chain_pem)

    @property
    def program(self) -> Program:
        """The program that certifies."""
        return Program(argv=self.spec.argv, timeout=self.spec.timeout, what="the issuer's command")


def _second(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)
