import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.inventory.regexes import MAX_CHARACTERS, compile_regex


@pytest.mark.parametrize(
    "text",
    [
        "web.*",
        r"(web|db)\d+",
        "(web)+",
        r"^web[0-9]+\.example$",
        "(?:a|b)c",
        "(?i)WEB",
        "(?P<site>[a-z]+)-x",
        "[)(+]+(a)",
        "a{2,3}",
        r"\(a+\)+",
        "(ab)?c",
        "(?!db).*",
        "(?<!a)b",
        "[]a]+",
        "[^]]+",
        "a+?b",
        "a++b",
        "(web|db)-[a-z]+-[0-9]+",
        "web{3}x{1,250}",
    ],
)
def test_an_expression_that_cannot_run_away_is_compiled(text: str) -> None:
    assert compile_regex(text).pattern == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(a+)+", "repeats what repeats or chooses itself"),
        ("(a|b)*", "repeats what repeats or chooses itself"),
        ("(a?a?)*b", "repeats what repeats or chooses itself"),
        ("((a+)?)*", "repeats what repeats or chooses itself"),
        ("(x(a|b)y){2,}", "repeats what repeats or chooses itself"),
        ("(?:a{2}){3}", "repeats what repeats or chooses itself"),
        ("(a?)*?", "repeats what repeats or chooses itself"),
        ("(?=a+)*", "repeats what repeats or chooses itself"),
        (r"(a)\1", r"allowed: groups"),
        ("(?P<n>a)(?P=n)", "allowed: groups"),
        ("(?x)a # (", "allowed: groups"),
        ("(?#)a", "allowed: groups"),
        ("a*a*a*a*a*a*b", "can match in too many ways"),
        (".*" * 3, "can match in too many ways"),
        ("(?:){1000000}", "can match in too many ways"),
        ("a?" * 20 + "b", "can match in too many ways"),
        ("(a|a)" * 20 + "b", "can match in too many ways"),
        ("a{0,99}a{,99}a{9,}b", "can match in too many ways"),
        ("x" * (MAX_CHARACTERS + 1), "has 201 characters; allowed: 200"),
        ("(", "is no regular expression: missing"),
        ("[", "is no regular expression: unterminated"),
        ("a**", "is no regular expression: multiple repeat"),
        ("a{99999999999999999999}", "is no regular expression: "),
    ],
)
def test_an_expression_that_could_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        compile_regex(text)


@pytest.mark.parametrize("text", ["a*a*b", "a*a*(a|a)b", "a?" * 17 + "b", "(a|a)" * 17 + "b", "(?!a*a*b)a"])
def test_the_slowest_that_is_compiled_takes_a_moment_on_the_longest_name(text: str) -> None:
    form = compile_regex(text)
    before = time.process_time()
    form.match("a" * 253)
    assert time.process_time() - before < 1


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(text=st.text("ab()[]{}|*+?^$\\.:-1,", max_size=20))
def test_any_text_is_compiled_or_refused(text: str) -> None:
    try:
        form = compile_regex(text)
    except UsageError:
        return
    assert form.pattern == re.compile(text).pattern


PIECES = st.sampled_from(
    ["a", "b", "a*", "a+", "a?", "b*", "(a|b)", "(a*)", "(ab?)", "(?:aa)", "{2}", "+", "*", "?", "|", "$"]
)


@given(text=st.lists(PIECES, max_size=12).map("".join))
def test_what_is_compiled_ends_soon_on_a_long_name(text: str) -> None:
    try:
        form = compile_regex(text)
    except UsageError:
        return
    form.match("a" * 252 + "!")
