"""What keyrelay takes from a host's variables, checked: how the host is reached and what it listens to.

Of Ansible's variables four are used, each under the names that Ansible's ssh connection accepts; where two
names of one variable are set the later in its list below wins, as there. Of its own, keyrelay knows the
``keyrelay_*`` variables of ``OWN_VARIABLES`` and refuses any other. All else in an inventory is inert data.

Nothing is rendered and nothing decrypted: a template or a vaulted value in a variable used here is an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from orchestrator.documents import Encrypted
from orchestrator.errors import InputError, Place
from orchestrator.inventory.names import HostName, shown

DEFAULT_PORT = 22
DEFAULT_BASE = "/etc/keyrelay"
MAX_BASE_CHARACTERS = 200

OWN_VARIABLES = ("keyrelay_base", "keyrelay_known_hosts", "keyrelay_servers")

_ADDRESS = ("ansible_host", "ansible_ssh_host")
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_KEY_FILE = ("ansible_private_key_file", "ansible_ssh_private_key_file")

_ADDRESS_FORM = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,252}")
_USER_FORM = re.compile(r"[^\s-][^\s]{0,255}")
_BASE_FORM = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
_MAX_PORT = 65535
_TEMPLATE_MARKS = ("{{", "{%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one host is reached; plain data, fit for JSON.

    Attributes:
        address: a DNS name or an IP address; the host's name unless ``ansible_host`` is set.
        port: the TCP port of its sshd.
        user: who logs in; None: the operator's own user name, which the connection knows.
        key_file: path of the private key to log in with, as written: ``~`` is not yet expanded, and a
            relative path starts at the working directory, as with Ansible; None: the connection's choice.
        known_hosts: path of the file of host keys, as written, like ``key_file``.
        base: absolute path of keyrelay's folder on the host.
    """

    host: HostName
    address: str
    port: int = DEFAULT_PORT
    user: str | None = None
    key_file: str | None = None
    known_hosts: str | None = None
    base: str = DEFAULT_BASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A variable's value and where it was written.

    Attributes:
        text: the scalar as it stands in the file, to be shown quoted; empty for mappings and lists.
    """

    value: Any
    place: Place
    text: str = ""


def check_variable_name(name: str, *, place: Place) -> None:
    """Refuse a ``keyrelay_*`` variable that does not exist.

    Raises:
        InputError: names the ones that do.
    """
    if not name.startswith("keyrelay_") or name in OWN_VARIABLES:
        return
    close = get_close_matches(name, OWN_VARIABLES, n=1)
    raise InputError(
        f"unknown variable {shown(name)}; allowed: {', '.join(OWN_VARIABLES)}",
        place=place,
        hint=f"did you mean {close[0]}?"
        if close
        else "variables that start with keyrelay_ are keyrelay's own",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The variables of one host, being read.

    Attributes:
        variables: the resolved values, by name.
        written: where the values were written, as far as known.
        place: where the host stands; named when a value's own place is unknown.
    """

    host: HostName
    variables: Mapping[str, Any]
    place: Place
    written: Mapping[str, Written] = field(default_factory=dict)

    def endpoint(self) -> Endpoint:
        """How the host is reached.

        Raises:
            InputError: a variable that says so is not text, is a template, or is out of its range.
        """
        return Endpoint(
            host=self.host,
            address=self._matching(_ADDRESS, _ADDRESS_FORM, "a DNS name or an IP address") or self.host,
            port=self._port(),
            user=self._matching(_USER, _USER_FORM, "a user name without blanks") or None,
            key_file=self._path(*_KEY_FILE),
            known_hosts=self._path("keyrelay_known_hosts"),
            base=self._base(),
        )

    def servers_pattern(self) -> str | None:
        """The pattern of servers that this host listens to as an agent; None: the playbook's servers.

        Raises:
            InputError: ``keyrelay_servers`` is not text, or is a template.
        """
        _, value = self._text("keyrelay_servers")
        return value

    def wrong(self, name: str, message: str, *, hint: str = "") -> InputError:
        """The error for the value of variable ``name``, at its place."""
        place = self.written[name].place if name in self.written else self.place
        return InputError(f"{name} of host {self.host} {message}", place=place, hint=hint)

    def _set(self, names: tuple[str, ...]) -> str | None:
        """The name that counts: the last of ``names`` that has a value; null is no value."""
        return next((name for name in reversed(names) if self.variables.get(name) is not None), None)

    def _text(self, *names: str) -> tuple[str, str | None]:
        name = self._set(names)
        if name is None:
            return names[0], None
        value = self.variables[name]
        self._refuse_encrypted(name, value)
        if isinstance(value, str):
            self._refuse_template(name, value)
            if not value.strip() or not value.isprintable():
                raise self.wrong(name, f"is {shown(value)}; allowed: text on one line")
            return name, value
        if isinstance(value, (dict, list)):
            kind = "a mapping" if isinstance(value, dict) else "a list"
            raise self.wrong(name, f"is {kind}; allowed: text")
        text = self.written[name].text if name in self.written else str(value)
        raise self.wrong(
            name,
            f"is {shown(value)}, which YAML did not read as text",
            hint=f'write it quoted: {name}: "{text}"',
        )

    def _refuse_template(self, name: str, value: str) -> None:
        if any(mark in value for mark in _TEMPLATE_MARKS):
            raise self.wrong(
                name,
                f"is the template {shown(value)}",
                hint="keyrelay renders nothing in an inventory; write the value itself",
            )

    def _refuse_encrypted(self, name: str, value: Any) -> None:
        if isinstance(value, Encrypted):
            hint = "write this value unencrypted; keyrelay needs no secret from an inventory"
            raise self.wrong(name, "is encrypted by ansible-vault, which keyrelay does not open", hint=hint)

    def _matching(self, names: tuple[str, ...], form: re.Pattern[str], allowed: str) -> str:
        name, value = self._text(*names)
        if value is not None and not form.fullmatch(value):
            raise self.wrong(name, f"is {shown(value)}; allowed: {allowed}")
        return value or ""

    def _path(self, *names: str) -> str | None:
        return self._text(*names)[1]

    def _port(self) -> int:
        name = self._set(_PORT)
        if name is None:
            return DEFAULT_PORT
        value = self.variables[name]
        self._refuse_encrypted(name, value)
        if isinstance(value, str):
            self._refuse_template(name, value)
            value = int(value) if re.fullmatch(r"[0-9]{1,5}", value) else value
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_PORT:
            return value
        raise self.wrong(name, f"is {shown(self.variables[name])}; allowed: a port, 1 to {_MAX_PORT}")

    def _base(self) -> str:
        name, value = self._text("keyrelay_base")
        if value is None:
            return DEFAULT_BASE
        parts = value.split("/")
        if (
            len(value) > MAX_BASE_CHARACTERS
            or not _BASE_FORM.fullmatch(value)
            or "." in parts
            or ".." in parts
        ):
            allowed = (
                "an absolute path of letters, digits and . _ + @ -, without . and .. and doubled slashes"
            )
            message = f"is {shown(value)}; allowed: {allowed}, at most {MAX_BASE_CHARACTERS} characters"
            raise self.wrong(name, message)
        return value
