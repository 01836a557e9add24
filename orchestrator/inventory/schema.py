"""The JSON Schema of an inventory file, for editors and other programs (``keyrelay schema inventory``).

The grammar is that of Ansible's YAML inventories, which allows any variable with any value; the variables
that keyrelay itself reads are described, and only these are checked.
"""

from typing import Any

from orchestrator.inventory.endpoints import DEFAULT_BASE, DEFAULT_PORT, MAX_BASE_CHARACTERS, OWN_VARIABLES

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

_ANSIBLE: dict[str, dict[str, Any]] = {
    "ansible_host": {**_TEXT, "description": "DNS name or IP address; without it, the host's name."},
    "ansible_port": {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^[0-9]{1,5}$"},
        ],
        "default": DEFAULT_PORT,
        "description": "The TCP port of the host's sshd.",
    },
    "ansible_user": {**_TEXT, "description": "Who logs in; without it, the operator's own user name."},
    "ansible_ssh_private_key_file": {
        **_TEXT,
        "description": "Path, on the controller, of the private key to log in with.",
    },
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
