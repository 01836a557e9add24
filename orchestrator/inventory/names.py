"""Names of hosts and groups, as everything after the inventory may rely on them.

A name becomes a file's name (``host_vars/NAME``), a field of the ``edges`` file on a host and a name in a
certificate. So it is a plain word: ASCII letters, digits and ``. _ -``, the first of them a letter, a digit
or ``_``, at most 253 characters (the longest DNS name, RFC 1035 section 2.3.4).
"""

import re
from typing import NewType

from orchestrator.errors import InputError, Place

HostName = NewType("HostName", str)
"""The name a host has in the inventory; where it is reached may differ (``ansible_host``)."""

GroupName = NewType("GroupName", str)
"""The name of a group of the inventory; ``all`` and ``ungrouped`` always exist."""

ALL = GroupName("all")
UNGROUPED = GroupName("ungrouped")

RESERVED = frozenset(
    {
        "ansible_async_path",
        "ansible_collection_name",
        "ansible_config_file",
        "ansible_dependent_role_names",
        "ansible_diff_mode",
        "ansible_facts",
        "ansible_forks",
        "ansible_inventory_sources",
        "ansible_limit",
        "ansible_play_batch",
        "ansible_play_hosts",
        "ansible_play_hosts_all",
        "ansible_play_role_names",
        "ansible_playbook_python",
        "ansible_role_name",
        "ansible_role_names",
        "ansible_run_tags",
        "ansible_skip_tags",
        "ansible_verbosity",
        "ansible_version",
        "group_names",
        "groups",
        "hostvars",
        "inventory_dir",
        "inventory_file",
        "inventory_hostname",
        "inventory_hostname_short",
        "play_hosts",
        "playbook_dir",
        "role_name",
        "role_names",
        "role_path",
        "role_uuid",
    }
)
"""Variables that Ansible sets itself; what an inventory says of them counts nowhere."""

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")
_ALLOWED = "letters, digits and . _ -, not starting with . or -, at most 253 characters"
_SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """``value`` for an error: escaped, and cut when it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def host_name(text: str, *, place: Place) -> HostName:
    """``text`` as a host's name.

    Raises:
        InputError: it is no plain word.
    """
    if _WORD.fullmatch(text):
        return HostName(text)
    hint = "give the host a plain name and write its address in ansible_host" if ":" in text else ""
    raise InputError(f"a host is named {shown(text)}; allowed: {_ALLOWED}", place=place, hint=hint)


def group_name(text: str, *, place: Place) -> GroupName:
    """``text`` as a group's name.

    Raises:
        InputError: it is no plain word.
    """
    if _WORD.fullmatch(text):
        return GroupName(text)
    raise InputError(f"a group is named {shown(text)}; allowed: {_ALLOWED}", place=place)
