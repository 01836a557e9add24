"""The issuer that is asked by ACME (RFC 8555): an account, an order, an answer on port 80, a chain.

The protocol is certbot's ``acme``. What a host has to answer (http-01, section 8.3) is put there by a program
that the playbook names, since only the operator knows what serves the host's port 80. What the server
answers is believed only as far as it can be checked (``keys/foreign.py``).
"""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import requests
from acme import challenges, client, errors, messages
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from josepy.util import ComparableECKey

from orchestrator.errors import IssuerError, KeyMaterialError
from orchestrator.issuers.program import HTTP_01, Program
from orchestrator.keys.authority import read_request
from orchestrator.keys.foreign import Expected, accept, parse_roots
from orchestrator.keys.material import Algorithm, Random, generate, open_signer
from orchestrator.policy.desired import AcmeSpec
from orchestrator.policy.durations import format_duration
from orchestrator.ports import CertificateOrder, Issued, Vault

ACCOUNT = "acme account"
"""What the vault keeps an account's key for; its record names the server too."""

_MOST_TOLD = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeIssuer:
    """Has keys certified by an ACME server.

    Attributes:
        spec: the server, the program that makes hosts answer, the roots, and how long it may take.
        vault: keeps the account's key.
        random: gives the account's key when there is none yet.
    """

    spec: AcmeSpec
    vault: Vault
    random: Random

    def issue(self, order: CertificateOrder, *, now: datetime) -> Issued:
        """Has the key of a request certified.

        ACME lets the server choose the period: a certificate that lasts longer than asked for is taken, one
        that ends earlier is not.

        Raises:
            IssuerError: the server cannot be reached, refuses, or sees no answer at a host; the program
                fails; or the certificate is not what was asked for. Names the server or the program.
            KeyMaterialError: the request is damaged, unproven, or asks for other names.
        """
        request = read_request(order.request_pem, names=order.names)
        with self._told():
            chain = self._asked(request.pem)
        expected = Expected(
            public=request.public,
            names=order.names,
            at=now + self.spec.timeout,
            begins_by=now + self.spec.timeout,
            ends_from=order.not_after.replace(microsecond=0),
            ends_by=None,
        )
        try:
            accepted = accept(chain, expected, parse_roots(self.spec.root))
        except KeyMaterialError as error:
            raise IssuerError(
                f"{self._name} answered what is not used: {error.message}",
                hint="certificate.lifetime has to be within what the server gives; issuer.root is its root",
            ) from error
        return Issued(certificate_pem=accepted.certificate.pem, chain_pem=accepted.chain_pem)

    @property
    def _name(self) -> str:
        return f"the ACME server {self.spec.directory}"

    def _asked(self, request_pem: str) -> str:
        # The library compares with the machine's own clock, in local time.
        deadline = datetime.now() + self.spec.timeout  # noqa: DTZ005, TID251 - see above
        with self._session() as server:
            order = server.new_order(request_pem.encode("ascii"))
            with ExitStack() as published:
                for authorization in order.authorizations:
                    if authorization.body.status == messages.STATUS_VALID:
                        continue
                    asked = _http_challenge(authorization)
                    response, answer = asked.response_and_validation(server.net.key)
                    name = str(authorization.body.identifier.value)
                    published.enter_context(self._published(name, asked.chall, answer))
                    server.answer_challenge(asked, response)
                order = server.poll_and_finalize(order, deadline)
        return str(order.fullchain_pem)

    @contextmanager
    def _session(self) -> Iterator[client.ClientV2]:
        """A conversation with the server, by an account that it knows."""
        key = JWKEC(key=self._account_key())
        with tempfile.NamedTemporaryFile(suffix=".pem") as vouching:
            vouching.write(self.spec.server_ca.encode("ascii"))
            vouching.flush()
            net = client.ClientNetwork(
                key,
                alg=ES256,
                user_agent="keyrelay",
                timeout=max(1, int(self.spec.timeout / timedelta(seconds=1))),
            )
            if self.spec.server_ca:
                net.verify_ssl = vouching.name  # type: ignore[assignment]  # requests takes a file's name too
            server = client.ClientV2(client.ClientV2.get_directory(self.spec.directory, net), net)
            asked = messages.NewRegistration.from_data(
                email=self.spec.contact or None, terms_of_service_agreed=True
            )
            try:
                server.new_account(asked)
            except errors.ConflictError as known:
                there = messages.RegistrationResource(uri=known.location, body=messages.Registration())
                server.query_registration(there)
            yield server

    def _account_key(self) -> ComparableECKey:
        """The account's key, made when the server is first asked."""
        record = f"acme-{hashlib.sha256(self.spec.directory.encode()).hexdigest()[:32]}"
        if not self.vault.holds(record):
            pair = generate(Algorithm.ECDSA_P256, random=self.random)
            self.vault.put(record, ACCOUNT, pair.private)
        return ComparableECKey(open_signer(self.vault.open(record, ACCOUNT)))  # type: ignore[arg-type]  # P-256

    @contextmanager
    def _published(self, name: str, asked: challenges.HTTP01, answer: str) -> Iterator[None]:
        """Have the host answer, and take the answer away again, whatever happens."""
        program = Program(argv=self.spec.publish, timeout=self.spec.timeout, what=HTTP_01)
        environment = {"KEYRELAY_NAME": name, "KEYRELAY_TOKEN": asked.encode("token")}
        program.run(answer.encode("ascii"), {**environment, "KEYRELAY_ACTION": "publish"})
        try:
            yield
        finally:
            with suppress(IssuerError):  # what is left is good for nothing any more
                program.run(answer.encode("ascii"), {**environment, "KEYRELAY_ACTION": "withdraw"})

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the libraries raise, in words."""
        try:
            yield
        except errors.ValidationError as error:
            raise IssuerError(
                f"{self._name} did not see the answer: {_why(error)}",
                hint="it asks the name's port 80; what the program for http-01 publishes has to be there",
            ) from error
        except errors.TimeoutError as error:
            timeout = format_duration(self.spec.timeout)
            raise IssuerError(f"{self._name} has not certified within {timeout}") from error
        except messages.Error as error:
            raise IssuerError(f"{self._name} refuses: {_plain(str(error))}") from error
        except requests.exceptions.RequestException as error:
            raise IssuerError(
                f"{self._name} cannot be reached: {_plain(str(error))}",
                hint="acme.server_ca names a file with the authority that vouches for its address",
            ) from error
        except (errors.Error, JoseError, ValueError, KeyError) as error:
            raise IssuerError(
                f"{self._name} answers otherwise than RFC 8555 has it: {_plain(str(error))}"
            ) from error


def _http_challenge(authorization: messages.AuthorizationResource) -> messages.ChallengeBody:
    for offered in authorization.body.challenges:
        if isinstance(offered.chall, challenges.HTTP01):
            return offered
    raise IssuerError(f"the ACME server offers no http-01 for {authorization.body.identifier.value!r}")


def _why(error: errors.ValidationError) -> str:
    told = [
        str(challenge.error.detail)
        for authorization in error.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error is not None
    ]
    return _plain("; ".join(told))


def _plain(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:_MOST_TOLD]
