"""What is wrong in a playbook, in sentences: pydantic's errors with a document's places.

A file is read to its end, so that one run shows everything that is wrong in it: the first error in full, the
others in a line each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

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
    field: Path = tuple(details["loc"])
    path = (*at, *field)
    match details["type"]:
        case "extra_forbidden" | "invalid_key":
            return _unknown(field, model, document, path)
        case "missing":
            return Problem(
                place=document.place(path[:-1]),
                message=f"{_dotted(field)} is missing; allowed: {_allowed(field, model)}",
            )
        case "contradiction":
            context = details["ctx"]
            place = document.place((*at, *context["at"]))
            return Problem(place=place, message=context["message"], hint=context["hint"])
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
                message=f"{_dotted(field) or 'a play'} is {found}; allowed: {_allowed(field, model)}",
            )


def _unknown(field: Path, model: type[BaseModel], document: Document, path: Path) -> Problem:
    owner = _model_at(field[:-1], model)
    names = tuple(owner.model_fields) if owner else ()
    where = f" in {_dotted(field[:-1])}" if len(field) > 1 else ""
    close = get_close_matches(str(field[-1]), names, n=1)
    return Problem(
        place=document.key_place(path),
        message=f"unknown field {shown(field[-1])}{where}; allowed here: {', '.join(names)}",
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


def _allowed(field: Path, model: type[BaseModel]) -> str:
    """What the kind of the field allows; for a section, its fields."""
    section = _model_at(field, model)
    if section is not None:
        return f"a mapping of {', '.join(section.model_fields)}"
    owner = _model_at(field[:-1], model)
    info = owner.model_fields.get(str(field[-1])) if owner and field else None
    kinds = [kind.allowed for kind in (info.metadata if info else ()) if hasattr(kind, "allowed")]
    return kinds[0] if kinds else (info.description or "") if info else ""


def _model_at(field: Path, model: type[BaseModel]) -> type[BaseModel] | None:
    found = model
    for part in field:
        info = found.model_fields.get(part) if isinstance(part, str) else None
        # A section that may be left out is a union with None.
        kinds = (get_args(info.annotation) or (info.annotation,)) if info else ()
        section = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None
        )
        if section is None:
            return None
        found = section
    return found
