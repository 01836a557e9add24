"""The entries of a play's ``install:``, and what each of their fields means and allows.

Which fields an entry has depends on its ``store``. The values they become are in ``stores.py``.
"""

from collections.abc import Iterable
from dataclasses import fields
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from orchestrator.policy.fields import Form, OneOf, Text, YesOrNo, contradiction, refused
from orchestrator.policy.sections import Section
from orchestrator.policy.stores import (
    Access,
    Holds,
    Java,
    Nss,
    PemAnchors,
    PemFiles,
    Pkcs12,
    Rendered,
    Store,
    Stores,
    System,
    holds,
)

MOST_ENTRIES = 16

_PATH = Form(
    form=r"^(/(?!\.{1,2}(/|$))[A-Za-z0-9._+@-]+)+$",
    most=255,
    what="an absolute path of letters, digits and . _ + @ - without . and .. between slashes",
)
_NAME = Form(
    form=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    most=64,
    what="a name of at most 64 letters, digits and . _ -",
)
_ALIAS = Form(
    form=r"^[a-z0-9][a-z0-9._-]{0,63}$",
    most=64,
    what="a name of at most 64 small letters, digits and . _ - (keytool makes capitals small)",
)
_ACCOUNT = Form(
    form=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,31}$",
    most=32,
    what="the name of an account on the host",
)
_MODE = Form(
    form="^0?[46][04][04]$", most=4, what='a mode in quotes, such as "0640": nobody but the owner writes'
)
_PARTS = ("key", "certificate", "chain", "fullchain", "combined")
"""What of the credential may be a file in PEM of its own."""
_TEMPLATE = Text(most=1000, what="the path of a template")


class On(StrEnum):
    """On which hosts of the play a template is written."""

    SERVERS = "servers"
    AGENTS = "agents"
    ALL = "all"


class _Owned(Section):
    """A file of ours: who may read it."""

    owner: Annotated[str, _ACCOUNT] = ""
    """The account that owns it; without it the one that keyrelay works as."""
    group: Annotated[str, _ACCOUNT] = ""
    """The group that it belongs to."""
    mode: Annotated[str, _MODE] = ""
    """Its mode, in quotes."""
    adopt: Annotated[bool, YesOrNo()] = False
    """Whether it may take the place of what keyrelay did not put there; otherwise that is refused."""

    @property
    def private(self) -> bool:
        """Whether it holds a private key, which is not for everybody."""
        return False

    def access(self) -> Access:
        """The same as a plain value."""
        mode = self.mode or ("600" if self.private else "644")
        return Access(owner=self.owner, group=self.group, mode=mode[-3:], adopt=self.adopt)

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        if self.private and self.mode and not self.mode.endswith("0"):
            raise contradiction(
                f'mode is "{self.mode}", by which everybody may read a private key; allowed: one that ends '
                'with 0, such as "0640"',
                at=("mode",),
            )
        return self


def _value(kind: type[Store], entry: Section) -> Store:
    """What an entry becomes: its fields have the same names there, but those that ``access`` holds."""
    names = {field.name for field in fields(kind)} & type(entry).model_fields.keys()
    values: dict[str, Any] = {name: getattr(entry, name) for name in names}
    if isinstance(entry, _Owned):
        values["access"] = entry.access()
    return kind(**values)


class PemEntry(_Owned):
    """Files in PEM: on servers the credential, each part where it has a path; or on agents the anchors."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["anchors"]},
                {"anyOf": [{"required": [part]} for part in _PARTS]},
            ]
        },
    )

    store: Literal["pem"]
    """The kind of entry."""
    key: Annotated[str, _PATH] = ""
    """The private key."""
    certificate: Annotated[str, _PATH] = ""
    """The certificate."""
    chain: Annotated[str, _PATH] = ""
    """The certificates above it, without the root."""
    fullchain: Annotated[str, _PATH] = ""
    """The certificate, and those above it."""
    combined: Annotated[str, _PATH] = ""
    """The private key, the certificate, and those above it, as one file."""
    anchors: Annotated[str, _PATH] = ""
    """The roots that the servers' chains end at; on agents."""

    @property
    def private(self) -> bool:
        """Whether it holds a private key."""
        return bool(self.key or self.combined)

    def spec(self) -> Store:
        """The same as a plain value."""
        return _value(PemAnchors if self.anchors else PemFiles, self)

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        credential = any(getattr(self, part) for part in _PARTS)
        if credential is bool(self.anchors):
            raise contradiction(
                ("it has both anchors and parts of the credential" if credential else "it names no file")
                + f"; allowed: one or more of {', '.join(_PARTS)}, or anchors",
                at=(),
                hint="the credential is put on servers, anchors on agents: write an entry for each",
            )
        return self


class Pkcs12Entry(_Owned):
    """The credential of a server as a file of PKCS#12."""

    store: Literal["pkcs12"]
    """The kind of entry."""
    file: Annotated[str, _PATH]
    """The file."""
    password_file: Annotated[str, _PATH]
    """The file on the host with its password; made there, with one at random, if it is missing."""
    alias: Annotated[str, _NAME] = "keyrelay"
    """The friendly name of the key in it."""

    @property
    def private(self) -> bool:
        """Whether it holds a private key."""
        return True

    def spec(self) -> Store:
        """The same as a plain value."""
        return _value(Pkcs12, self)


class NssEntry(Section):
    """Entries in a database of NSS that is there already; its other entries are left alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "properties": {"adopt": {"const": True}, "holds": {"const": Holds.CREDENTIAL}},
                "required": ["adopt"],
            }
        },
    )

    store: Literal["nss"]
    """The kind of entry."""
    database: Annotated[str, _PATH]
    """The folder of the database."""
    name: Annotated[str, _NAME] = "keyrelay"
    """The nickname; each anchor's has the beginning of its digest behind it."""
    password_file: Annotated[str, _PATH] = ""
    """The file on the host with the database's password, if it has one."""
    holds: Annotated[Holds, OneOf(choices=Holds)] = Holds.CREDENTIAL
    """What is put in: the credential, on servers; or the anchors, on agents."""
    adopt: Annotated[bool, YesOrNo()] = False
    """Whether anchors may take the place of entries that keyrelay did not put there."""

    @model_validator(mode="after")
    def _check_adopt(self) -> Self:
        if self.adopt and self.holds is Holds.CREDENTIAL:
            raise contradiction(
                "adopt is yes, and NSS could not give back the entry of a server whose hook fails; "
                "allowed: no, or holds: anchors",
                at=("adopt",),
                hint="rename or remove the entry that is there, or give this one another name",
            )
        return self

    def spec(self) -> Store:
        """The same as a plain value."""
        return _value(Nss, self)


class JavaEntry(_Owned):
    """Entries in a keystore of Java, which is made if it is missing; its other entries are left alone."""

    store: Literal["java"]
    """The kind of entry."""
    keystore: Annotated[str, _PATH]
    """The keystore; one that is there keeps its owner and mode."""
    password_file: Annotated[str, _PATH]
    """The file on the host with its password; made there, with one at random, if it is missing."""
    alias: Annotated[str, _ALIAS] = "keyrelay"
    """The alias; each anchor's has the beginning of its digest behind it."""
    holds: Annotated[Holds, OneOf(choices=Holds)] = Holds.CREDENTIAL
    """What is put in: the credential, on servers; or the anchors, on agents."""

    @property
    def private(self) -> bool:
        """Whether it holds a private key."""
        return self.holds is Holds.CREDENTIAL

    def spec(self) -> Store:
        """The same as a plain value."""
        return _value(Java, self)


class SystemEntry(Section):
    """The anchors among those that an agent's whole system trusts."""

    store: Literal["system"]
    """The kind of entry."""
    name: Annotated[str, _NAME] = "keyrelay"
    """The name of the files; the beginning of each anchor's digest stands behind it."""
    adopt: Annotated[bool, YesOrNo()] = False
    """Whether they may take the place of files that keyrelay did not put there."""

    def spec(self) -> Store:
        """The same as a plain value."""
        return _value(System, self)


class TemplateEntry(_Owned):
    """A file made from a template, for each host with its own variables."""

    store: Literal["template"]
    """The kind of entry."""
    template: Annotated[str, _TEMPLATE]
    """The file with the template (Jinja2) on the controller; a relative path begins at the playbook."""
    file: Annotated[str, _PATH]
    """The file on the host."""
    hosts: Annotated[On, OneOf(choices=On)] = On.SERVERS
    """On which hosts of the play."""

    def spec(self) -> Store:
        """The same as a plain value."""
        return _value(Rendered, self)


Entry = PemEntry | Pkcs12Entry | NssEntry | JavaEntry | SystemEntry | TemplateEntry


def _entries(value: object) -> object:
    if isinstance(value, list) and 0 < len(value) <= MOST_ENTRIES:
        return tuple(value)
    many = f" of {len(value)} entries" if isinstance(value, list) and value else ""
    raise refused(f"{many}; allowed: a list of 1 to {MOST_ENTRIES} stores")


Install = Annotated[
    tuple[Annotated[Entry, Field(discriminator="store")], ...],
    Field(strict=False, json_schema_extra={"minItems": 1, "maxItems": MOST_ENTRIES}),
    BeforeValidator(_entries),
]


def stores_of(entries: Iterable[Entry]) -> Stores:
    """What the entries put on servers and on agents; the texts of templates come later."""
    server: list[Store] = []
    agent: list[Store] = []
    for entry in entries:
        store = entry.spec()
        if isinstance(entry, TemplateEntry):
            server += [store] if entry.hosts is not On.AGENTS else []
            agent += [store] if entry.hosts is not On.SERVERS else []
        else:
            (server if holds(store) is Holds.CREDENTIAL else agent).append(store)
    return Stores(server=tuple(server), agent=tuple(agent))
