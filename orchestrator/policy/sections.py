"""The sections of a play, and what each of their fields means and allows."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from orchestrator.inventory.names import shown
from orchestrator.keys.material import Algorithm
from orchestrator.policy.desired import (
    AcmeSpec,
    CertificateSpec,
    CommandSpec,
    IssuerSpec,
    KeySpec,
    MessageSpec,
    Origin,
    Prove,
    RolloutSpec,
    Share,
)
from orchestrator.policy.fields import (
    Duration,
    OneOf,
    Part,
    PartOfWhole,
    Patience,
    Text,
    YesOrNo,
    contradiction,
    given,
    refused,
)
from orchestrator.policy.hooks import MAX_CHARACTERS

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
PART = Part()
COMMAND_LINE = Text(most=MAX_CHARACTERS, what="a command for sh", lines=True)
COMMAND = "a list of a program's absolute path and its arguments"
_WORD = Text(most=1000, what="a word of a command")
_PEM_FILE = Text(most=1000, what="the path of a file with certificates in PEM")


class Service(StrEnum):
    """How the service that signs comes to use a new key."""

    FOLLOWS = "follows"
    """It reads ``current`` afresh for each use."""


class Section(BaseModel):
    """Fields that are read strictly and never changed; one that does not exist is an error."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)


class KeySection(Section):
    """What kind of key, and where it is made."""

    algorithm: Annotated[Algorithm, OneOf(choices=Algorithm)] = Algorithm.ED25519
    """The kind of key pair."""
    origin: Annotated[Origin, OneOf(choices=Origin)] = Origin.CONTROLLER
    """Where it is made. A key made on its server never leaves it, so no other server can share it."""

    exportable: Annotated[bool, YesOrNo()] = True
    """Whether keyrelay cert export may write it to a file. A key made under no can never be exported."""

    def spec(self) -> KeySpec:
        """The same as plain values."""
        return KeySpec(algorithm=self.algorithm, origin=self.origin, exportable=self.exportable)


class CertificateSection(Section):
    """How long a key is used, and when its successor is due."""

    lifetime: Annotated[timedelta, Duration(least=10 * _SECOND, most=3650 * _DAY)] = timedelta(days=365)
    """From the key's making to the certificate's end."""
    renew_at: Annotated[Fraction, PartOfWhole()] = Fraction(2, 3)
    """The part of the lifetime after which a successor is due."""
    grace: Annotated[timedelta, Duration(least=timedelta(), most=3650 * _DAY)] = timedelta(days=30)
    """How long agents accept the key beyond its certificate's end, for the case that a handover is late."""

    jitter: Annotated[timedelta, Duration(least=timedelta(), most=3650 * _DAY)] = timedelta()
    """By how much earlier a successor may be due; each key has its own share, so not all come due at once."""
    longest: Annotated[timedelta | None, Duration(least=10 * _SECOND, most=36500 * _DAY)] = None
    """From its making, how long a key may be kept in use while its successor waits; then agents refuse it."""

    def spec(self) -> CertificateSpec:
        """The same as plain values."""
        return CertificateSpec(
            lifetime=self.lifetime,
            renew_at=self.renew_at,
            grace=self.grace,
            jitter=self.jitter,
            longest=self.longest,
        )


def _command(value: Any) -> Any:
    if isinstance(value, list) and value:
        return tuple(value)
    raise refused(f"; allowed: {COMMAND}")


def _absolute(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv[0].startswith("/"):
        raise refused(
            f" that begins with {shown(argv[0])}; allowed: {COMMAND}",
            hint="nobody's PATH decides which program certifies",
        )
    return argv


_Command = Annotated[
    tuple[Annotated[str, _WORD], ...],
    Field(strict=False),
    BeforeValidator(_command),
    AfterValidator(_absolute),
    WithJsonSchema({"type": "array", "items": _WORD.json_schema(), "minItems": 1}),
]


def _https(address: str) -> str:
    if not address.startswith("https://"):
        raise refused("; allowed: an address that begins with https://")
    return address


class AcmeSection(Section):
    """A server that certifies by ACME (RFC 8555), and how hosts come to answer its questions."""

    directory: Annotated[str, Text(most=1000, what="the address of a directory"), AfterValidator(_https)]
    """The address of the server's directory; to name a server is to agree to its terms."""
    publish: _Command
    """The program on the controller that makes a host answer http-01, and its arguments."""
    contact: Annotated[str, Text(most=254, what="a mail address")] = ""
    """A mail address that the server may write to."""
    server_ca: Annotated[str, _PEM_FILE] = ""
    """The file with the certificates that vouch for the server's address, if the system's do not."""


class IssuerSection(Section):
    """Who certifies instead of the fleet's own issuer: a program on the controller, or an ACME server."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["command"]}, {"required": ["acme"]}]},
    )

    command: _Command = ()
    """The program's absolute path, and its arguments; there is no shell."""
    acme: AcmeSection | None = None
    """The ACME server."""
    root: Annotated[str, _PEM_FILE]
    """The file with the certificates that a chain has to end at; a relative path begins at the playbook."""
    timeout: Annotated[timedelta, Duration(least=_SECOND, most=timedelta(minutes=4))] = timedelta(seconds=30)
    """How long one certificate may take."""

    @property
    def files(self) -> Mapping[tuple[str, ...], str]:
        """The files that the section names, by the fields that name them."""
        named = {("root",): self.root, ("acme", "server_ca"): self.acme.server_ca if self.acme else ""}
        return {field: file for field, file in named.items() if file}

    def spec(self, files: Mapping[tuple[str, ...], str]) -> IssuerSpec:
        """The same as plain values, with what the files hold, by the fields that name them."""
        root = files[("root",)]
        if self.acme is None:
            return CommandSpec(argv=self.command, root=root, timeout=self.timeout)
        return AcmeSpec(
            directory=self.acme.directory,
            publish=self.acme.publish,
            contact=self.acme.contact,
            server_ca=files.get(("acme", "server_ca"), ""),
            root=root,
            timeout=self.timeout,
        )


class MessagesSection(Section):
    """How long a signed message is valid; agents keep an old key for as long as that."""

    validity: Annotated[timedelta, Duration(least=_SECOND, most=7 * _DAY)] = timedelta(minutes=5)
    """How long after its signing an agent may accept a message."""
    clock_skew: Annotated[timedelta, Duration(least=_SECOND, most=timedelta(hours=1))] = timedelta(seconds=30)
    """How far a host's clock may be off."""

    def spec(self) -> MessageSpec:
        """The same as plain values."""
        return MessageSpec(validity=self.validity, clock_skew=self.clock_skew)


def _waves(value: Any) -> Any:
    if isinstance(value, list) and value:
        return tuple(value)
    raise refused(f"; allowed: a list of waves, each {PART.allowed}")


def _growing(waves: tuple[Share, ...]) -> tuple[Share, ...]:
    """Refuse a wave that can never have servers: counts grow, percentages grow, and 100% comes last."""
    for position, wave in enumerate(waves):
        before = waves[:position]
        if any(one.is_all or (one.percent == wave.percent and one.number >= wave.number) for one in before):
            raise refused(
                f" whose {wave} is not beyond the wave before; allowed: waves that grow, none after 100%",
                hint="each wave says how many servers use the new key after it, the ones before included",
            )
    return waves


class RolloutSection(Section):
    """How a handover goes over the servers."""

    waves: Annotated[
        tuple[Annotated[Share, PART], ...],
        Field(strict=False),
        BeforeValidator(_waves),
        AfterValidator(_growing),
        WithJsonSchema({"type": "array", "items": PART.json_schema(), "minItems": 1}),
    ] = (Share(number=1), Share(number=25, percent=True), Share(number=100, percent=True))
    """How many servers use the new key after each wave, the ones before included; the first is the canary."""
    max_failures: Annotated[Share, PART] = Share(number=5, percent=True)
    """So many servers of a wave that went back to their old key pause the rollout."""
    soak: Annotated[timedelta, Duration(least=timedelta(), most=30 * _DAY)] = timedelta(minutes=10)
    """How long each wave is watched in use, before the next one and before old keys are put beyond reach."""
    proof_age: Annotated[timedelta, Duration(least=timedelta(minutes=1), most=30 * _DAY)] = _DAY
    """The age from which an agent's proof is taken again before a server switches."""
    offline: Annotated[
        timedelta | None,
        Patience(duration=Duration(least=timedelta(minutes=1), most=3650 * _DAY)),
        Field(json_schema_extra={"default": "block"}),
    ] = None
    """Whether an agent that is away is waited for, or only for so long."""
    prove: Annotated[Prove, OneOf(choices=Prove)] = Prove.COVERED
    """Which agents verify what a server signs once it has switched: the canary's, or all of them."""

    def spec(self) -> RolloutSpec:
        """The same as plain values."""
        return RolloutSpec(
            soak=self.soak,
            waves=self.waves,
            max_failures=self.max_failures,
            proof_age=self.proof_age,
            offline=self.offline,
            prove=self.prove,
        )


class HooksSection(Section):
    """Commands that run on hosts at named points; Jinja2 templates over the host's variables."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["activated"]}, {"required": ["trusted"]}]}
    )

    activated: Annotated[Annotated[str, COMMAND_LINE] | None, BeforeValidator(given)] = None
    """Runs on a server when it has switched keys."""
    trusted: Annotated[Annotated[str, COMMAND_LINE] | None, BeforeValidator(given)] = None
    """Runs on an agent when it has a new trust bundle, before what it proves with that counts."""

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if self.activated is None and self.trusted is None:
            raise contradiction("it names no command; allowed: activated, trusted, or both", at=())
        return self
