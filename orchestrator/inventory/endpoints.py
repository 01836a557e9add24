"""What keyrelay takes from a host's variables, checked: how the host is reached and what it listens to.

Of Ansible's variables those are used that say how its ssh connection reaches a host and becomes another
user there, each under the names that Ansible accepts; where two names of one variable are set the later in
its list below wins, as there. Of its own, keyrelay knows the ``keyrelay_*`` variables of ``OWN_VARIABLES``
and refuses any other. All else in an inventory is inert data.

Nothing is rendered and nothing decrypted: a template or a vaulted value in a variable used here is an error,
except in a password for sudo, which a person is asked for then.
Passwords are no part of an ``Endpoint``, which is recorded in the ledger.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from orchestrator.documents import Encrypted
from orchestrator.errors import InputError, Place
from orchestrator.inventory.names import HostName, shown
from orchestrator.inventory.ranges import MAX_PORT
from orchestrator.inventory.ssh_options import OptionError, SshOptions, parse_arguments

DEFAULT_PORT = 22
DEFAULT_BASE = "/etc/keyrelay"
MAX_BASE_CHARACTERS = 200

OWN_VARIABLES = ("keyrelay_base", "keyrelay_known_hosts", "keyrelay_servers")

_ADDRESS = ("ansible_host", "ansible_ssh_host")
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_KEY_FILE = ("ansible_private_key_file", "ansible_ssh_private_key_file")
_SSH_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
CONNECTIONS = (
    "ssh",
    "smart",
    "paramiko",
    "paramiko_ssh",
    "ansible.builtin.ssh",
    "ansible.builtin.paramiko_ssh",
)
_BECOME_PASSWORD = ("ansible_become_password", "ansible_become_pass")
LOGIN_PASSWORDS = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
"""What Ansible logs in with where there is no key."""

ANSIBLE_VARIABLES = (
    *("ansible_connection", *_ADDRESS, *_PORT, *_USER, *_KEY_FILE, *_SSH_ARGUMENTS),
    *("ansible_become", "ansible_become_method", "ansible_become_exe", "ansible_become_flags"),
    *("ansible_become_user", *_BECOME_PASSWORD, "ansible_sudo_pass", *LOGIN_PASSWORDS),
    *(f"ansible_{method}_{what}" for method in ("sudo", "doas") for what in ("user", "exe", "flags")),
)
"""Every variable of Ansible's that is looked at; ``schema.py`` describes each."""

_ADDRESS_FORM = re.compile(
    r"[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,252}|\[[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9._-]{1,16})?\]"
)
_ACCOUNT_FORM = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?")
_USER_FORM = re.compile(r"[^\s-][^\s]{0,255}")
_BASE_FORM = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
_TEMPLATE_MARKS = ("{{", "{%")
_TRUTHS = {
    "yes": True,
    "true": True,
    "on": True,
    "1": True,
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}
_ARGUMENTS_HINT = (
    "keyrelay reads these arguments and runs no ssh; docs/how-to/reach-hosts.md lists what it follows"
)
BECOME_FLAGS = frozenset(("-H", "-S", "-n", "-HSn"))


class BecomeMethod(StrEnum):
    """The program by which the login user becomes another one."""

    SUDO = "sudo"
    DOAS = "doas"


@dataclass(frozen=True, slots=True, kw_only=True)
class Become:
    """Who runs keyrelay's program on the host, where that is not who logs in.

    Attributes:
        user: a plain account name; safe in a command line.
    """

    method: BecomeMethod = BecomeMethod.SUDO
    user: str = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one host is reached; plain data, fit for JSON.

    Attributes:
        address: a DNS name, an IP address or a name in ``~/.ssh/config``; the host's name unless
            ``ansible_host`` is set.
        port: the TCP port of its sshd; None: what ``~/.ssh/config`` says, else 22.
        user: who logs in; None: what ``~/.ssh/config`` says, else the operator's own user name.
        key_file: path of the private key to log in with, as written: ``~`` is not yet expanded, and a
            relative path starts at the working directory, as with Ansible; None: the connection's choice.
        known_hosts: path of the file of host keys, as written, like ``key_file``.
        base: absolute path of keyrelay's folder on the host.
        ssh: what the inventory's arguments for ``ssh`` say beyond port and user; None: nothing.
        become: whom the login user becomes; None: nobody else.
    """

    host: HostName
    address: str
    port: int | None = None
    user: str | None = None
    key_file: str | None = None
    known_hosts: str | None = None
    base: str = DEFAULT_BASE
    ssh: SshOptions | None = None
    become: Become | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A variable's value and where it was written.

    Attributes:
        text: the scalar as it stands in the file, to be shown quoted; empty for mappings and lists.
    """

    value: Any
    place: Place
    text: str = ""


class VariableError(InputError):
    """A host's variable is wrong.

    Attributes:
        host: whose value it is, perhaps among others that inherit it from the same line.
        said: what is wrong, as ``{variable} of {who} {said}``.
    """

    def __init__(self, host: HostName, variable: str, said: str, *, place: Place, hint: str = "") -> None:
        super().__init__(f"{variable} of host {host} {said}", place=place, hint=hint)
        self.host = host
        self.variable = variable
        self.said = said


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
        self._check_connection()
        first, common, extra = (self._arguments(name) for name in _SSH_ARGUMENTS)
        # Ansible puts its own port and user behind the first arguments and before the others.
        later = common.over(extra)
        said = replace(first.over(later), port=None, user=None)
        user = self._matching(_USER, _USER_FORM, "a user name without blanks") or None
        address = self._matching(_ADDRESS, _ADDRESS_FORM, "a DNS name or an IP address") or self.host
        return Endpoint(
            host=self.host,
            address=address.strip("[]"),
            port=first.port or self._port() or later.port,
            user=first.user or user or later.user,
            key_file=self._path(*_KEY_FILE),
            known_hosts=self._path("keyrelay_known_hosts"),
            base=self._base(),
            ssh=None if said == SshOptions() else said,
            become=self._become(),
        )

    def become_password(self) -> str | None:
        """The password for sudo that the inventory holds; for the one who wraps it at once.

        An encrypted one and a template count as none: sudo asks, and then a person is asked.

        Raises:
            VariableError: it is not text on one line.
        """
        name = self._set((*_BECOME_PASSWORD, "ansible_sudo_pass"))
        if name is None or isinstance(self.variables[name], Encrypted):
            return None
        if not isinstance(value := self.variables[name], str) or not value.isprintable() or not value:
            raise self.wrong(name, "is no password; allowed: text on one line", hint="write it quoted")
        return None if any(mark in value for mark in _TEMPLATE_MARKS) else value

    def unused_passwords(self) -> tuple[Written, ...]:
        """The passwords to log in with that the inventory holds, which keyrelay never uses."""
        return tuple(
            self.written[name]
            for name in LOGIN_PASSWORDS
            if name in self.written and self.variables.get(name) is not None
        )

    def servers_pattern(self) -> str | None:
        """The pattern of servers that this host listens to as an agent; None: the playbook's servers.

        Raises:
            InputError: ``keyrelay_servers`` is not text, or is a template.
        """
        _, value = self._text("keyrelay_servers")
        return value

    def wrong(self, name: str, message: str, *, hint: str = "") -> VariableError:
        """The error for the value of variable ``name``, at its place."""
        place = self.written[name].place if name in self.written else self.place
        return VariableError(self.host, name, message, place=place, hint=hint)

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

    def _check_connection(self) -> None:
        name, value = self._text("ansible_connection")
        if value is not None and value not in CONNECTIONS:
            raise self.wrong(
                name,
                f"is {shown(value)}; allowed: {', '.join(CONNECTIONS[:3])}",
                hint="keyrelay reaches hosts by SSH alone; leave this host out of the playbook's patterns",
            )

    def _arguments(self, name: str) -> SshOptions:
        """What one variable with arguments for ``ssh`` says; empty text says nothing."""
        if self.variables.get(name) == "":
            return SshOptions()
        _, value = self._text(name)
        if value is None:
            return SshOptions()
        try:
            options, destination = parse_arguments(value)
        except OptionError as error:
            raise self.wrong(name, f"cannot be followed: {error}", hint=_ARGUMENTS_HINT) from error
        if destination is not None:
            raise self.wrong(
                name, f"names a destination or command, {shown(destination)}", hint=_ARGUMENTS_HINT
            )
        return options

    def _become(self) -> Become | None:
        if not self._truth("ansible_become"):
            return None
        name, value = self._text("ansible_become_method")
        word = (value or BecomeMethod.SUDO).rpartition(".")[2]
        if word not in set(BecomeMethod):
            raise self.wrong(name, f"is {shown(value)}; allowed: {' or '.join(BecomeMethod)}")
        method = BecomeMethod(word)
        for unused in ("ansible_become_exe", f"ansible_{method}_exe"):
            if self.variables.get(unused) not in (None, "", str(method)):
                raise self.wrong(unused, f"is set; keyrelay runs {method} as the host's PATH finds it")
        for unused in ("ansible_become_flags", f"ansible_{method}_flags"):
            if not set(str(self.variables.get(unused) or "").split()) <= BECOME_FLAGS:
                raise self.wrong(
                    unused, f"has flags that keyrelay does not give to {method}; allowed: -H -S -n"
                )
        names = ("ansible_become_user", f"ansible_{method}_user")
        user = self._matching(names, _ACCOUNT_FORM, "the plain name of an account")
        return Become(method=method, user=user or "root")

    def _truth(self, name: str) -> bool:
        value = self.variables.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self._refuse_encrypted(name, value)
        if isinstance(value, str):
            self._refuse_template(name, value)
        word = str(value).lower() if isinstance(value, (str, int)) else ""
        if word not in _TRUTHS:
            raise self.wrong(name, f"is {shown(value)}; allowed: true or false")
        return _TRUTHS[word]

    def _port(self) -> int | None:
        name = self._set(_PORT)
        if name is None:
            return None
        value = self.variables[name]
        self._refuse_encrypted(name, value)
        if isinstance(value, str):
            self._refuse_template(name, value)
            value = int(value) if re.fullmatch(r"[0-9]{1,5}", value) else value
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PORT:
            return value
        raise self.wrong(name, f"is {shown(self.variables[name])}; allowed: a port, 1 to {MAX_PORT}")

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
