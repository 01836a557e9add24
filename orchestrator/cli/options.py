"""The options and arguments that several commands share."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import passphrases
from orchestrator.errors import UsageError
from orchestrator.policy.durations import parse_duration

_FINGERPRINT = re.compile(r"(?:SHA256:)?([A-Za-z0-9+/]{43})=?")


def _here_or_before(context: typer.Context, value: bool) -> bool:  # noqa: FBT001 - typer calls it so
    """``--json`` counts before the command and after it."""
    return value or bool(context.find_root().params.get("as_json"))


def _file_here_or_before(context: typer.Context, value: Path | None) -> Path | None:
    """What stands before the command counts where nothing stands after it; both before the environment."""
    return value or context.find_root().params.get("passphrase_file")


def worded(value: str | None) -> str | None:
    """A reason that says something, or none.

    Raises:
        BadParameter: it is blank.
    """
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty; the ledger keeps it, so say it in a few words")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_here_or_before)]
Inventories = Annotated[
    list[Path],
    typer.Option("-i", "--inventory", metavar="FILE", help="An inventory file or folder; may be repeated."),
]
PlaybookFile = Annotated[Path, typer.Argument(metavar="PLAYBOOK", help="The playbook file.")]
PlaybookFiles = Annotated[list[Path], typer.Argument(metavar="PLAYBOOK…", help="Playbook files.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help=f"A file with the vault's passphrase, as {passphrases.VARIABLE}; else the terminal is asked.",
        callback=_file_here_or_before,
    ),
]
RootPassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with the root key's own passphrase.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Agree beforehand; needed where there is no terminal.")]
Wait = Annotated[str, typer.Option(metavar="TIME", help="How long to wait for time to pass.")]


def duration(text: str, option: str) -> timedelta:
    """The duration that an option gives.

    Raises:
        UsageError: it is none.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(
            f"{option}: {error}", hint="a duration is written as 30d, 12h, 10m, 5s or 1d12h"
        ) from error


def fingerprint(text: str) -> str:
    """A host key's fingerprint as ``ssh-keygen -l`` prints it.

    Raises:
        UsageError: it is none.
    """
    found = _FINGERPRINT.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--host-key {text!r} is no fingerprint",
            hint="at the host's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; give its SHA256:…",
        )
    return f"SHA256:{found[1]}"
