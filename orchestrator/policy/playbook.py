"""The playbook: a YAML list of plays, each of which says which servers sign, who listens, and with what keys.

The file's words are checked as far as they can be without an inventory, so that everything after it may
rely on them. A field that does not exist is an error, never ignored.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from orchestrator.documents import Document, read_document, read_file
from orchestrator.errors import InputError, Place
from orchestrator.inventory.names import shown
from orchestrator.keys.material import Algorithm
from orchestrator.policy.desired import LONGEST_DELEGATED, IssuerSpec, Origin, PlaybookName, Policy
from orchestrator.policy.durations import format_duration
from orchestrator.policy.expiry import part_of, room
from orchestrator.policy.fields import Duration, OneOf, Text, contradiction, given, refused
from orchestrator.policy.hooks import check_hook
from orchestrator.policy.install import Install, NssEntry, TemplateEntry
from orchestrator.policy.named_files import read_issuer_files, read_templates
from orchestrator.policy.refusals import Problem, problems_of, refuse
from orchestrator.policy.sections import (
    COMMAND_LINE,
    CertificateSection,
    HooksSection,
    IssuerSection,
    KeySection,
    MessagesSection,
    RolloutSection,
    Section,
    Service,
)
from orchestrator.policy.stores import Holds, find_clash

HOOK = "hook"
TRUSTED_HOOK = "agent's hook"
PROVE_COMMAND = "prove_command"

_SECOND = timedelta(seconds=1)
_PATTERN = Text(most=1000, what="a pattern of inventory hosts, such as servers or web*:!web9")
_GROUP = Text(most=253, what="the name of an inventory group")


def _one_or_more(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        return tuple(value)
    raise refused(f"; allowed: {_GROUP.what}, or a list of names")


def _rules(schema: dict[str, Any]) -> None:
    """The rules between fields, for editors that check a playbook by its schema."""
    schema["allOf"] = [
        {
            "if": {"properties": {"policy": {"const": Policy.PER_GROUP}}},
            "then": {"required": ["group_by"]},
        },
        {
            "if": {"properties": {"policy": {"const": Policy.SHARED}}},
            "then": {"properties": {"key": {"properties": {"origin": {"const": Origin.CONTROLLER}}}}},
        },
        {
            "anyOf": [
                {"required": ["service"]},
                {"required": ["hooks"], "properties": {"hooks": {"required": ["activated"]}}},
                {"required": ["prove_command"]},
            ]
        },
        {"if": {"required": ["prove_within"]}, "then": {"required": ["prove_command"]}},
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where a play was read."""

    document: Document
    position: int
    digest: str


class Playbook(Section):
    """One play: servers that sign, agents that verify, and the policy that cuts servers into key scopes."""

    model_config = ConfigDict(json_schema_extra=_rules)

    name: Annotated[str, Text(most=100, what="a name")]
    """Names the play in the ledger. Files of one name are one play: to edit its policy is a policy change."""
    servers: Annotated[str, _PATTERN]
    """The inventory pattern of the hosts that sign."""
    agents: Annotated[str, _PATTERN]
    """The inventory pattern of the hosts that verify; keyrelay_servers says which servers one listens to."""
    policy: Annotated[Policy, OneOf(choices=Policy)]
    """Who shares a key: all servers, the servers of a group, or nobody; delegated: nobody, and agents believe
    what the issuer certifies."""
    group_by: Annotated[
        tuple[Annotated[str, _GROUP], ...],
        Field(strict=False),
        BeforeValidator(_one_or_more),
        WithJsonSchema(
            {"anyOf": [_GROUP.json_schema(), {"type": "array", "items": _GROUP.json_schema(), "minItems": 1}]}
        ),
    ] = ()
    """The inventory groups that policy per-group cuts servers by: every server is in exactly one of them."""
    key: KeySection = Field(default_factory=KeySection)
    certificate: CertificateSection = Field(default_factory=CertificateSection)
    issuer: Annotated[IssuerSection | None, BeforeValidator(given)] = None
    messages: MessagesSection = Field(default_factory=MessagesSection)
    service: Annotated[Annotated[Service, OneOf(choices=Service)] | None, BeforeValidator(given)] = None
    """How the service that signs comes to use a new key; without it, hooks.activated has to make it, or
    prove_command to show that it did."""
    rollout: RolloutSection = Field(default_factory=RolloutSection)
    hooks: Annotated[HooksSection | None, BeforeValidator(given)] = None
    prove_command: Annotated[Annotated[str, COMMAND_LINE] | None, BeforeValidator(given)] = None
    """Has the running service sign what it reads on standard input; a Jinja2 template like a hook."""
    prove_within: Annotated[timedelta, Duration(least=_SECOND, most=timedelta(minutes=10))] = timedelta(
        seconds=60
    )
    """How long the service may take, after a switch, until it signs with the new key."""
    install: Install = ()
    """Where else on hosts the credential, or the anchors of trust, must appear."""

    _source: _Source | None = PrivateAttr(default=None)
    _issuer_files: Mapping[tuple[str, ...], str] = PrivateAttr(default_factory=dict)
    _templates: Mapping[int, str] = PrivateAttr(default_factory=dict)

    @property
    def playbook_name(self) -> PlaybookName:
        """The name under which the ledger knows it."""
        return PlaybookName(self.name)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the bytes of the file it was read from; empty if it was read from none."""
        return self._source.digest if self._source else ""

    def issuer_spec(self) -> IssuerSpec | None:
        """Who certifies; None: the fleet's own issuer."""
        return self.issuer.spec(self._issuer_files) if self.issuer is not None else None

    def templates(self) -> Iterator[tuple[TemplateEntry, int, str]]:
        """The entries of ``install`` with a template: each with its number, and the template's text."""
        for number, entry in enumerate(self.install):
            if isinstance(entry, TemplateEntry):
                yield entry, number, self._templates[number]

    def commands(self) -> Mapping[str, tuple[str, Place]]:
        """The templates of commands that run on hosts, by what errors call them, and where they stand."""
        found: dict[str, tuple[str, Place]] = {}
        if self.hooks is not None and self.hooks.activated is not None:
            found[HOOK] = (self.hooks.activated, self.place("hooks", "activated"))
        if self.hooks is not None and self.hooks.trusted is not None:
            found[TRUSTED_HOOK] = (self.hooks.trusted, self.place("hooks", "trusted"))
        if self.prove_command is not None:
            found[PROVE_COMMAND] = (self.prove_command, self.place("prove_command"))
        return found

    def place(self, *path: str | int) -> Place:
        """Where a field is written, or the nearest thing around it that is."""
        if self._source is None:
            return Place(file=f"playbook {self.name}")
        return self._source.document.place((self._source.position, *path))

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        if self.policy is Policy.PER_GROUP and not self.group_by:
            raise contradiction(
                "group_by is missing; policy per-group cuts servers by the inventory groups it names",
                at=("policy",),
                hint="add for example group_by: [site_a, site_b]",
            )
        twice = next((name for name in self.group_by if self.group_by.count(name) > 1), None)
        if twice is not None:
            raise contradiction(f"group_by names {shown(twice)} twice", at=("group_by",))
        if self.policy is Policy.SHARED and self.key.origin is Origin.SERVER:
            raise contradiction(
                "key.origin is server, but with policy shared all servers have one key; "
                "a key that never leaves its server cannot be shared",
                at=("key", "origin"),
                hint="use policy per-server, or origin: controller",
            )
        return self

    @model_validator(mode="after")
    def _check_issuer(self) -> Self:
        if self.issuer is not None and bool(self.issuer.command) is (self.issuer.acme is not None):
            raise contradiction(
                "issuer has " + ("both of" if self.issuer.command else "none of") + " command and acme; "
                "allowed: one of them",
                at=("issuer",),
            )
        return self

    @model_validator(mode="after")
    def _check_delegation(self) -> Self:
        certificate = self.certificate
        if self.policy is not Policy.DELEGATED:
            return self
        if self.issuer is not None:
            raise contradiction(
                "issuer names somebody else's authority; policy delegated allows none but the fleet's own, "
                "since agents believe whatever it certifies",
                at=("issuer",),
                hint="leave issuer out, or use policy per-server",
            )
        if certificate.lifetime > LONGEST_DELEGATED:
            raise contradiction(
                f"certificate.lifetime is {_words(certificate.lifetime)}; policy delegated allows at most "
                f"{_words(LONGEST_DELEGATED)}, since agents believe any certificate until it ends",
                at=("certificate",),
                hint="for example certificate: {lifetime: 7d, renew_at: 1/2, grace: 1d}",
            )
        if certificate.grace >= certificate.lifetime:
            raise contradiction(
                f"certificate.grace is {_words(certificate.grace)}; policy delegated allows less than the "
                f"lifetime, {_words(certificate.lifetime)}",
                at=("certificate",),
                hint="for example certificate: {lifetime: 7d, renew_at: 1/2, grace: 1d}",
            )
        return self

    @model_validator(mode="after")
    def _check_service(self) -> Self:
        told = self.hooks is not None and self.hooks.activated is not None
        if self.service is None and not told and self.prove_command is None:
            raise contradiction(
                "nothing says how the service comes to use a new key; allowed: service: follows, "
                "hooks.activated with a command that reloads it, or prove_command with one that has it sign",
                at=(),
                hint="service: follows is for a service that reads current afresh for each use",
            )
        if "prove_within" in self.model_fields_set and self.prove_command is None:
            raise contradiction(
                "prove_within says how long prove_command may take to show the new key, and there is none",
                at=("prove_within",),
                hint="add prove_command, or leave prove_within out",
            )
        return self

    @model_validator(mode="after")
    def _check_install(self) -> Self:
        clash = find_clash([entry.spec() for entry in self.install])
        if clash is not None:
            number, place = clash
            raise contradiction(
                f"install[{number}] writes to {place}, where another entry writes, reads its password "
                "or has its database; allowed: a place for each",
                at=("install", number),
            )
        for number, entry in enumerate(self.install):
            holds_key = isinstance(entry, NssEntry) and entry.holds is Holds.CREDENTIAL
            if holds_key and self.key.algorithm is Algorithm.ED25519:
                raise contradiction(
                    f"install[{number}] puts a key of key.algorithm ed25519 into NSS, which takes none; "
                    "allowed with store nss: ecdsa-p256, rsa-3072",
                    at=("install", number),
                    hint="for example key: {algorithm: ecdsa-p256}",
                )
        return self

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        certificate, messages, rollout = self.certificate, self.messages, self.rollout.spec()
        before = part_of(certificate.lifetime, certificate.renew_at)
        if certificate.jitter >= before:
            raise contradiction(
                f"certificate.jitter is {_words(certificate.jitter)}; a successor is due after "
                f"{_words(before)}, so some keys would be due at once; allowed: less than that",
                at=("certificate", "jitter"),
            )
        if certificate.longest is not None and certificate.longest < certificate.lifetime:
            raise contradiction(
                f"certificate.longest is {_words(certificate.longest)}, less than the lifetime, "
                f"{_words(certificate.lifetime)}; allowed: that or more",
                at=("certificate", "longest"),
            )
        windows = {
            "from renew_at to the certificate's end": room(certificate.spec()),
            "until the next successor is due": before - certificate.jitter,
        }
        needed = rollout.most_waves * rollout.soak + messages.spec().in_flight
        waves = f"{rollout.most_waves} wave{'s' if rollout.most_waves > 1 else ''}"
        for meaning, window in windows.items():
            if needed >= window:
                raise contradiction(
                    f"a handover waits {_words(needed)} ({waves} x rollout.soak "
                    f"{_words(rollout.soak)} + messages.validity {_words(messages.validity)} + 2 x "
                    f"messages.clock_skew {_words(messages.clock_skew)}), "
                    f"which does not fit into the {_words(window)} {meaning} (certificate.lifetime "
                    f"{_words(certificate.lifetime)}, renew_at {certificate.renew_at})",
                    at=("certificate",),
                    hint="make the lifetime longer, or the waits shorter",
                )
        return self


def load_playbooks(path: Path) -> tuple[Playbook, ...]:
    """The plays of the playbook file at ``path``, in their order; at least one.

    Raises:
        InputError: the file cannot be read, is no YAML, or breaks a rule of the format. One error names all
            that is wrong, the first with its place, what was found and what is allowed.
    """
    return read_playbooks(read_file(path), file=str(path))


def read_playbooks(content: bytes, *, file: str) -> tuple[Playbook, ...]:
    """The plays of a playbook file whose bytes are ``content``; ``file`` is the name that errors show.

    Raises:
        InputError: as ``load_playbooks``.
    """
    document = read_document(content, file=file)
    if not isinstance(document.value, list) or not document.value:
        found = {dict: "a mapping", list: "an empty list", type(None): "nothing"}.get(
            type(document.value), "a scalar"
        )
        raise InputError(
            f"a playbook is a list of plays, found {found}; allowed: one or more plays",
            place=document.place(()),
            hint="begin each play with a dash: - name: …",
        )
    digest, folder = hashlib.sha256(content).hexdigest(), Path(file).parent
    plays: list[Playbook] = []
    problems: list[Problem] = []
    for position, value in enumerate(document.value):
        try:
            play = Playbook.model_validate(value)
        except ValidationError as error:
            problems.extend(problems_of(error, Playbook, document, (position,)))
            continue
        play._source = _Source(document=document, position=position, digest=digest)  # noqa: SLF001 - set once, here
        try:
            play._issuer_files = read_issuer_files(play.issuer, folder, play.place)  # noqa: SLF001 - set once, here
            play._templates = read_templates(play.install, folder, play.place)  # noqa: SLF001 - set once, here
        except InputError as error:
            problems.append(Problem.of(error))
        problems.extend(_problems_between(play, plays))
        plays.append(play)
    if problems:
        raise refuse(problems)
    return tuple(plays)


def _problems_between(play: Playbook, earlier: Sequence[Playbook]) -> Iterator[Problem]:
    if any(other.name == play.name for other in earlier):
        message = f"two plays of this file are named {shown(play.name)}; allowed: a name for each"
        yield Problem(place=play.place("name"), message=message)
    for what, (template, place) in play.commands().items():
        try:
            check_hook(template, place=place, what=what)
        except InputError as error:
            yield Problem.of(error)


def _words(duration: timedelta) -> str:
    """For an error: rounded down to seconds."""
    return format_duration(timedelta(seconds=duration // _SECOND))
