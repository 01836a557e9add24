"""What is wrong in a playbook, in sentences: pydantic's errors with a document's places.

A file is read to its end, so that one run shows everything that is wrong in it: the first error in full, the
others in a line each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.documents import Document
from orchestrator.errors import InputError, Place
from orchestrator.inventory.names import shown

Path = tuple[Any, ...]

_SHOWN_AT_MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, where, and what can be done."""

    place: Place
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: InputError) -> "Problem":
        """The problem that another part has found."""
        return cls(place=error.place, message=error.message.removeprefix(f"{error.place}: "), hint=error.hint)


def refuse(problems: Sequence[Problem]) -> InputError:
    """One error for all ``problems``, the first of them in the file in front."""
    first, *rest = sorted(problems, key=lambda problem: (problem.place.line, problem.place.column))
    if not rest:
        return InputError(first.message, place=first.place, hint=first.hint)
    lines = [f"  {problem.place}: {problem.message}" for problem in rest[:_SHOWN_AT_MOST]]
    if len(rest) > _SHOWN_AT_MOST:
        lines.append("  …")
    message = "\n".join([first.message, f"and {len(rest)} more:", *lines])
    return InputError(message, place=first.place, hint=first.hint)


def problems_of(
    error: ValidationError, model: type[BaseModel], document: Document, at: Path
) -> Iterator[Problem]:
    """What pydantic found in the part of ``document`` at the path ``at``, which was to be a ``model``."""
    for details in error.errors(include_url=False):
        yield _problem(details, model, document, at)


def _problem(details: ErrorDetails, model: type[BaseModel], document: Document, at: Path) -> Problem:
    field, _ = _walk(details["loc"], model)
    path = (*at, *field)
    match details["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            return _unknown_kind(details, model, document, path)
        case "extra_forbidden" | "invalid_key":
            return _unknown(field, _walk(details["loc"][:-1], model)[1], document, path)
        case "missing":
            return Problem(
                place=document.place(path[:-1]),
                message=f"{_dotted(field)} is missing; allowed: {_allowed(details['loc'], model)}",
            )
        case "contradiction":
            context = details["ctx"]
            message = f"{_dotted(field)}: {context['message']}" if field else context["message"]
            return Problem(
                place=document.place((*path, *context["at"])), message=message, hint=context["hint"]
            )
        case "refused":
            context = details["ctx"]
            found = _found(details["input"], document, path)
            key = next((part for part in reversed(field) if isinstance(part, str)), "")
            quoted = (
                document.quoted(path) if field and field[-1] != key else f"{key}: {document.quoted(path)}"
            )
            hint = context["hint"].replace("{quoted}", quoted)
            message = f"{_dotted(field) or 'a play'} is {found}{context['tail']}"
            return Problem(place=document.place(path), message=message, hint=hint)
        case _:
            found = _found(details["input"], document, path)
            return Problem(
                place=document.place(path),
                message=f"{_dotted(field) or 'a play'} is {found}; "
                f"allowed: {_allowed(details['loc'], model)}",
            )


def _unknown(field: Path, owner: type[BaseModel] | None, document: Document, path: Path) -> Problem:
    names = tuple(owner.model_fields) if owner else ()
    where = f" in {_dotted(field[:-1])}" if len(field) > 1 else ""
    close = get_close_matches(str(field[-1]), names, n=1)
    return Problem(
        place=document.key_place(path),
        message=f"unknown field {shown(field[-1])}{where}; allowed here: {', '.join(names)}",
        hint=f"did you mean {close[0]}?" if close else "",
    )


def _unknown_kind(details: ErrorDetails, model: type[BaseModel], document: Document, path: Path) -> Problem:
    """A section whose first word should say which of several kinds it is."""
    name = details["ctx"]["discriminator"].strip("'")
    field, _ = _walk(details["loc"], model)
    kinds = _alternatives(details["loc"], model)
    where = f"{_dotted(field)}.{name}"
    if name not in details["input"]:
        message = f"{where} is missing; allowed: {', '.join(kinds)}"
        return Problem(place=document.place(path), message=message)
    path = (*path, name)
    found = details["input"][name]
    close = get_close_matches(str(found), kinds, n=1)
    return Problem(
        place=document.place(path),
        message=f"{where} is {_found(found, document, path)}; allowed: {', '.join(kinds)}",
        hint=f"did you mean {close[0]}?" if close else "",
    )


def _found(value: Any, document: Document, path: Path) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return shown(value)
    return shown(value) if not (source := document.source_text(path)) else shown(source).strip("'\"")


def _dotted(field: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in field).removeprefix(".")


def _allowed(loc: Path, model: type[BaseModel]) -> str:
    """What the kind of the field allows; for a section, its fields."""
    _, section = _walk(loc, model)
    if section is not None:
        return f"a mapping of {', '.join(section.model_fields)}"
    _, owner = _walk(loc[:-1], model)
    info = owner.model_fields.get(str(loc[-1])) if owner and loc else None
    kinds = [kind.allowed for kind in (info.metadata if info else ()) if hasattr(kind, "allowed")]
    return kinds[0] if kinds else (info.description or "") if info else ""


def _walk(loc: Path, model: type[BaseModel]) -> tuple[Path, type[BaseModel] | None]:
    """Where an error's ``loc`` leads in the document, and the section there, if it is one.

    Where a list has sections of several kinds, ``loc`` has the kind of each behind its number, and the
    document has not.
    """
    path: list[Any] = []
    found: type[BaseModel] | None = model
    kinds: dict[str, type[BaseModel]] = {}
    for part in loc:
        if part in kinds:
            found, kinds = kinds[part], {}
            continue
        path.append(part)
        if isinstance(part, int):
            continue
        info = found.model_fields.get(part) if found is not None else None
        sections = tuple(_sections(info.annotation)) if info is not None else ()
        found = sections[0] if len(sections) == 1 else None
        kinds = {kind: section for section in sections for kind in _kinds(section)} if not found else {}
    return tuple(path), found


def _alternatives(loc: Path, model: type[BaseModel]) -> tuple[str, ...]:
    """The kinds of section that an item of a list may be."""
    *before, name, _ = loc
    _, owner = _walk(tuple(before), model)
    annotation = owner.model_fields[name].annotation if owner is not None else None
    return tuple(kind for section in _sections(annotation) for kind in _kinds(section))


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that an annotation allows; one that may be left out is a union with None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def _kinds(section: type[BaseModel]) -> Iterator[str]:
    """The words that tell a section from others of its list: those of its one literal field."""
    for info in section.model_fields.values():
        if get_origin(info.annotation) is Literal:
            yield from get_args(info.annotation)
