"""The JSON Schema of an inventory file, for editors and other programs (``keyrelay schema inventory``).

The grammar is that of Ansible's YAML inventories, which allows any variable with any value; the variables
that keyrelay itself reads are described, and only these are checked.
"""

from typing import Any

from orchestrator.inventory.endpoints import (
    BECOME_FLAGS,
    CONNECTIONS,
    DEFAULT_BASE,
    DEFAULT_PORT,
    LOGIN_PASSWORDS,
    MAX_BASE_CHARACTERS,
    OWN_VARIABLES,
    BecomeMethod,
)
from orchestrator.inventory.ranges import MAX_PORT

_TEXT = {"type": "string", "minLength": 1, "not": {"pattern": "\\{[{%]"}}

_OWN: dict[str, dict[str, Any]] = {
    "keyrelay_base": {
        **_TEXT,
        "maxLength": MAX_BASE_CHARACTERS,
        "pattern": "^(/[A-Za-z0-9._+@-]+)+$",
        "default": DEFAULT_BASE,
        "description": "Absolute path of keyrelay's folder on the host.",
    },
    "keyrelay_known_hosts": {
        **_TEXT,
        "description": "Path, on the controller, of the file with the host's key.",
    },
    "keyrelay_servers": {
        **_TEXT,
        "description": "The servers that this agent listens to, a pattern; without it, the playbook's.",
    },
}

_PORT: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MAX_PORT},
        {"type": "string", "pattern": "^[0-9]{1,5}$"},
    ],
    "default": DEFAULT_PORT,
    "description": "The TCP port of the host's sshd.",
}
_ADDRESS = {**_TEXT, "description": "DNS name or IP address; without it, the host's name."}
_USER = {**_TEXT, "description": "Who logs in; without it, the operator's own user name."}
_KEY_FILE = {**_TEXT, "description": "Path, on the controller, of the private key to log in with."}
_ARGUMENTS = {
    "type": "string",
    "not": {"pattern": "\\{[{%]"},
    "description": "Arguments for ssh, read and never executed: -J, -F, -i, -l, -p, -o.",
}
_ACCOUNT = {
    **_TEXT,
    "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,30}\\$?$",
    "default": "root",
    "description": "Who runs keyrelay's program on the host.",
}
_PASSWORD = {
    "type": "string",
    "minLength": 1,
    "description": "The login user's password for sudo; asked for where this is encrypted or a template.",
}
_UNUSED_PASSWORD = {"description": "Never used: keyrelay logs in by keys alone."}
_FLAGS = {
    "type": ["string", "null"],
    "pattern": f"^ *(({'|'.join(sorted(BECOME_FLAGS))})( +|$))*$",
    "description": "Flags of Ansible's for the program, which change nothing here.",
}
_NO_EXE = "keyrelay runs the program as the host's PATH finds it; no other can be named."
_EXES = {"type": ["string", "null"], "enum": [None, "", *BecomeMethod], "description": _NO_EXE}

_ANSIBLE: dict[str, dict[str, Any]] = {
    "ansible_connection": {
        "enum": list(CONNECTIONS),
        "description": "keyrelay reaches hosts by SSH alone.",
    },
    "ansible_host": _ADDRESS,
    "ansible_ssh_host": _ADDRESS,
    "ansible_port": _PORT,
    "ansible_ssh_port": _PORT,
    "ansible_user": _USER,
    "ansible_ssh_user": _USER,
    "ansible_private_key_file": _KEY_FILE,
    "ansible_ssh_private_key_file": _KEY_FILE,
    "ansible_ssh_args": _ARGUMENTS,
    "ansible_ssh_common_args": _ARGUMENTS,
    "ansible_ssh_extra_args": _ARGUMENTS,
    "ansible_become": {
        "anyOf": [
            {"type": ["boolean", "null"]},
            {"enum": [0, 1]},
            {
                "type": "string",
                "pattern": "^([Yy][Ee][Ss]|[Nn][Oo]|[Tt]rue|[Ff]alse|TRUE|FALSE|[Oo]n|[Oo]ff|0|1)$",
            },
        ],
        "description": "Whether the login user becomes another one on the host.",
    },
    "ansible_become_method": {
        **_TEXT,
        "pattern": f"^([^.]+\\.)*({'|'.join(BecomeMethod)})$",
        "default": BecomeMethod.SUDO,
        "description": "By which program.",
    },
    "ansible_become_user": _ACCOUNT,
    "ansible_become_password": _PASSWORD,
    "ansible_become_pass": _PASSWORD,
    "ansible_sudo_pass": _PASSWORD,
    "ansible_become_exe": _EXES,
    "ansible_become_flags": _FLAGS,
    **dict.fromkeys(LOGIN_PASSWORDS, _UNUSED_PASSWORD),
    **{f"ansible_{method}_user": _ACCOUNT for method in BecomeMethod},
    **{f"ansible_{method}_exe": _EXES for method in BecomeMethod},
    **{f"ansible_{method}_flags": _FLAGS for method in BecomeMethod},
}


_UNKNOWN = f"^keyrelay_(?!({'|'.join(name.removeprefix('keyrelay_') for name in OWN_VARIABLES)})$)"


def inventory_schema() -> dict[str, Any]:
    """The schema as plain JSON values (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "keyrelay inventory",
        "description": "Groups by name, as in Ansible's YAML inventories.",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Group"},
        "$defs": {
            "Group": {
                "description": "Hosts, groups below this one, and variables for all of them.",
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {
                    "hosts": {
                        "description": "Hosts by name, with variables; ranges such as web[01:20] unfold.",
                        "type": ["object", "string", "null"],
                        "additionalProperties": {"$ref": "#/$defs/Variables"},
                    },
                    "children": {
                        "description": "Groups below this one.",
                        "type": ["object", "string", "null"],
                        "additionalProperties": {"$ref": "#/$defs/Group"},
                    },
                    "vars": {"$ref": "#/$defs/Variables"},
                },
            },
            "Variables": {
                "description": "Any variables; those that start with keyrelay_ are keyrelay's own.",
                "type": ["object", "null"],
                "properties": {**_ANSIBLE, **_OWN},
                "patternProperties": {_UNKNOWN: False},
            },
        },
    }
