"""The part of JSON Schema 2020-12 that keyrelay's schemas use; a keyword it does not know is an error."""

import re
from collections.abc import Callable, Mapping
from typing import Any

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_NOTES = {"$schema", "$defs", "title", "description", "default", "then", "discriminator"}


def accepts(schema: Any, value: Any, root: Any = None) -> bool:
    """Whether ``value`` is valid under ``schema``."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    return all(
        _holds(keyword, wanted, value, schema=schema, root=root)
        for keyword, wanted in schema.items()
        if keyword not in _NOTES
    )


def _holds(keyword: str, wanted: Any, value: Any, *, schema: Any, root: Any) -> bool:
    def ok(part: Any, of: Any) -> bool:
        return accepts(part, of, root)

    text = value if isinstance(value, str) else None
    number = value if _TYPES["number"](value) else None
    items = value if isinstance(value, list) else None
    fields = {str(key): one for key, one in value.items()} if isinstance(value, dict) else None
    match keyword:
        case "$ref":
            return ok(root["$defs"][wanted.removeprefix("#/$defs/")], value)
        case "type":
            return any(_TYPES[name](value) for name in ([wanted] if isinstance(wanted, str) else wanted))
        case "enum":
            return value in wanted
        case "const":
            return bool(value == wanted)
        case "pattern":
            return text is None or re.search(wanted, text) is not None
        case "minLength":
            return text is None or len(text) >= wanted
        case "maxLength":
            return text is None or len(text) <= wanted
        case "minimum":
            return number is None or number >= wanted
        case "maximum":
            return number is None or number <= wanted
        case "exclusiveMinimum":
            return number is None or number > wanted
        case "exclusiveMaximum":
            return number is None or number < wanted
        case "items":
            return all(ok(wanted, one) for one in items or ())
        case "minItems":
            return items is None or len(items) >= wanted
        case "maxItems":
            return items is None or len(items) <= wanted
        case "required":
            return fields is None or all(name in fields for name in wanted)
        case "properties":
            return all(ok(wanted[name], one) for name, one in (fields or {}).items() if name in wanted)
        case "patternProperties":
            pairs = [
                (part, one)
                for form, part in wanted.items()
                for name, one in (fields or {}).items()
                if re.search(form, name)
            ]
            return all(ok(part, one) for part, one in pairs)
        case "additionalProperties":
            known = schema.get("properties", {})
            return all(ok(wanted, one) for name, one in (fields or {}).items() if name not in known)
        case "allOf":
            return all(ok(part, value) for part in wanted)
        case "oneOf":
            return sum(ok(part, value) for part in wanted) == 1
        case "anyOf":
            return any(ok(part, value) for part in wanted)
        case "not":
            return not ok(wanted, value)
        case "if":
            return not ok(wanted, value) or ok(schema["then"], value)
    raise AssertionError(f"the schema uses {keyword}, which this reader does not know")
