"""The JSON Schema of a playbook file, for editors and other programs (``keyrelay schema playbook``).

It is made from the models that read the file, so it names the same fields. What it cannot say, such as sums
of durations, the models check.
"""

from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator.policy.desired import Share
from orchestrator.policy.durations import format_duration
from orchestrator.policy.playbook import Playbook


class _InWords(GenerateJsonSchema):
    """Defaults as a playbook writes them; a field that may be left out is not one that may be null."""

    def encode_default(self, dft: Any) -> Any:
        match dft:
            case timedelta():
                return format_duration(dft)
            case Share():
                return str(dft) if dft.percent else dft.number
            case (Share(), *_):
                return [self.encode_default(share) for share in dft]
            case _:
                return super().encode_default(dft)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) in (None, (), ""):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False


def playbook_schema() -> dict[str, Any]:
    """The schema as plain JSON values (JSON Schema 2020-12)."""
    plays = TypeAdapter(list[Playbook]).json_schema(schema_generator=_InWords)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "keyrelay playbook",
        "description": "A list of plays; each says which servers sign, who listens, and with what keys.",
        "minItems": 1,
        **plays,
    }
