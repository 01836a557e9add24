import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from orchestrator.keys.secret import Secret

WORD = b"correct-horse-battery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    secret: Secret


@given(st.binary(min_size=1))
def test_what_goes_in_comes_out_by_reveal_alone(data: bytes) -> None:
    secret = Secret(data)
    assert secret.reveal() == data
    assert repr(secret) == str(secret) == f"{secret!r}" == f"{secret!s}" == "Secret(…)"


def test_printf_logging_and_containers_show_nothing(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(WORD)
    logging.getLogger("keys").warning("the key is %s, %r", secret, [secret])
    shown = caplog.text + "%s" % secret + repr(Holder(secret=secret)) + str({"key": secret})  # noqa: UP031 (the point)
    assert WORD.decode() not in shown


def test_a_secret_refuses_format_and_f_strings() -> None:
    with pytest.raises(TypeError, match="cannot be formatted"):
        format(Secret(WORD))
    with pytest.raises(TypeError, match="cannot be formatted"):
        _ = f"{Secret(WORD)}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(Secret(WORD), protocol)


def test_a_secret_cannot_be_copied_not_even_with_its_holder() -> None:
    for copying in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copying(Secret(WORD))
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        asdict(Holder(secret=Secret(WORD)))


def test_json_and_pydantic_refuse_a_secret() -> None:
    with pytest.raises(TypeError):
        json.dumps({"key": Secret(WORD)})
    assert WORD.decode() not in json.dumps({"key": Secret(WORD)}, default=str)
    with pytest.raises(PydanticSchemaGenerationError):
        TypeAdapter(Holder)


def test_a_traceback_with_local_variables_shows_nothing() -> None:
    def fail(secret: Secret) -> None:
        raise RuntimeError(f"cannot use {secret!r}")

    try:
        fail(Secret(WORD))
    except RuntimeError as error:
        told = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Secret(…)" in told
    assert WORD.decode() not in told


@given(st.binary(), st.binary())
def test_secrets_are_equal_when_their_bytes_are(one: bytes, other: bytes) -> None:
    assert (Secret(one) == Secret(other)) is (one == other)
    assert Secret(one) == Secret(bytes(one))


def test_a_secret_never_equals_anything_else() -> None:
    assert Secret(WORD) != WORD
    assert Secret(WORD) != WORD.decode()
    assert Secret(WORD) != object()


def test_a_secret_has_no_hash_no_length_no_items_and_no_attributes() -> None:
    secret = Secret(WORD)
    asking: tuple[Callable[[Any], object], ...] = (hash, len, iter, bytes, vars)
    for ask in asking:
        with pytest.raises(TypeError):
            ask(secret)


def test_only_bytes_are_wrapped() -> None:
    with pytest.raises(TypeError, match="not str"):
        Secret("text")  # type: ignore[arg-type]  # the mistake under test
