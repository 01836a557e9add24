"""The program that runs on hosts, whole: the parts in ``host/``, in an order that defines before it uses.

It is one constant for every host and every visit. Each part keeps one thing; the shell sees only the whole.
"""

import re
from importlib import resources

_PARTS = (
    "frames",
    "places",
    "lock",
    "tombstones",
    "signatures",
    "vouching",
    "commands",
    "manifest",
    "store_places",
    "store_rooms",
    "store_ours",
    "stores",
    "store_kinds",
    "store_java",
    "store_databases",
    "store_system",
    "store_forgetting",
    "credentials",
    "activation",
    "trust",
    "store_survey",
    "store_obstacles",
    "survey",
    "main",
)


def _program() -> bytes:
    """The parts without indentation and whole-line comments; none of their texts has any."""
    folder = resources.files(__package__) / "host"
    text = b"".join(folder.joinpath(f"{part}.sh").read_bytes() for part in _PARTS)
    return re.sub(rb"(?m)^[ \t]*(#.*)?\n|^[ \t]+", b"", text)


PROGRAM = _program()

BOOTSTRAP = f"exec sh -c 'eval \"$(dd bs={len(PROGRAM)} count=1 iflag=fullblock 2>/dev/null)\"'"
"""What a host is asked to execute, always; works under every usual login shell."""
