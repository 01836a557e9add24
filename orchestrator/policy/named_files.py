"""The files beside a playbook that its plays name: certificates of authorities, and templates."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.documents import read_file
from orchestrator.errors import InputError, KeyMaterialError, Place
from orchestrator.inventory.names import shown
from orchestrator.keys.foreign import parse_roots
from orchestrator.policy.install import Entry, TemplateEntry
from orchestrator.policy.sections import IssuerSection
from orchestrator.policy.templates import check_template

_MOST_BYTES = 64 * 1024


def read_issuer_files(
    issuer: IssuerSection | None, folder: Path, place: Callable[..., Place]
) -> Mapping[tuple[str, ...], str]:
    """What the files with certificates hold that a play's issuer names, by the fields that name them.

    Args:
        issuer: the play's.
        folder: where relative paths begin.
        place: where a field of the play is written, by its path.

    Raises:
        InputError: one cannot be read, or holds no certificate of an authority.
    """
    files = issuer.files if issuer is not None else {}
    return {
        field: _certificates(folder, file, ".".join(("issuer", *field)), place("issuer", *field))
        for field, file in files.items()
    }


def read_templates(install: Sequence[Entry], folder: Path, place: Callable[..., Place]) -> Mapping[int, str]:
    """The text of each template that a play installs, by its number in ``install``.

    Raises:
        InputError: one cannot be read, or is no template that can be rendered safely.
    """
    return {
        number: _template(folder, entry.template, place("install", number, "template"))
        for number, entry in enumerate(install)
        if isinstance(entry, TemplateEntry)
    }


def _certificates(folder: Path, file: str, field: str, place: Place) -> str:
    path = folder / file
    try:
        text = read_file(path, limit_bytes=_MOST_BYTES).decode("ascii", "replace")
        parse_roots(text)
    except (InputError, KeyMaterialError) as error:
        message = error.message.removeprefix(f"{path}: ")
        raise InputError(
            f"{field} is {shown(file)}: {message}",
            place=place,
            hint="name a file with the certificate of the authority that the chains end at",
        ) from error
    return text


def _template(folder: Path, file: str, place: Place) -> str:
    path = folder / file
    try:
        text = read_file(path, limit_bytes=_MOST_BYTES).decode()
    except InputError as error:
        message = f"template is {shown(file)}: {error.message.removeprefix(f'{path}: ')}"
        raise InputError(message, place=place) from error
    except UnicodeDecodeError as error:
        raise InputError(f"template is {shown(file)}, which is no text in UTF-8", place=place) from error
    check_template(text, name=shown(file), place=place)
    return text
