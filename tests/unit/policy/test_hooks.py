import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import InputError, Place
from orchestrator.inventory.model import HostName
from orchestrator.policy.hooks import MAX_CHARACTERS, check_hook, render_hook
from orchestrator.policy.sandbox import host_variables
from tests.unit.policy.worlds import inventory_of

PLACE = Place(file="playbook.yml", line=7, column=22)
PRINTABLE = st.text(max_size=60).filter(
    lambda text: text.isprintable() and "{{" not in text and "{%" not in text
)


def render(template: str, **variables: Any) -> str:
    return render_hook(template, {"inventory_hostname": "web1", **variables}, place=PLACE)


@given(PRINTABLE)
def test_a_value_is_always_one_word(value: str) -> None:
    assert shlex.split(render("reload {{ x }} now", x=value)) == ["reload", value, "now"]


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="ab'\"`$\\;&|<>(){}#*?~! -", max_size=30).filter(lambda text: "{{" not in text))
def test_a_real_shell_sees_the_value_and_nothing_else(value: str) -> None:
    command = render("printf '%s' a{{ x }}b", x=value)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=20)
    assert done.stdout.decode() == f"a{value}b"


@pytest.mark.parametrize(
    ("template", "value", "seen"),
    [
        ("echo {{ x }}>out; cat out", 2, "2\n"),
        ("{{ x }} true || echo no", "LD_PRELOAD=/nowhere.so", "no\n"),
        ("{{ x }} true || echo no", "!", "no\n"),
        ("echo {{ x }}", "~", "~\n"),
    ],
)
def test_a_value_is_no_part_of_the_shells_own_grammar(
    template: str, value: Any, seen: str, tmp_path: Path
) -> None:
    command = ["sh", "-c", render(template, x=value)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=20, cwd=tmp_path)
    assert done.stdout.decode() == seen


@pytest.mark.parametrize(
    ("template", "command"),
    [
        ("systemctl reload nginx", "systemctl reload nginx"),
        ("systemctl reload {{ name }}", "systemctl reload 'a b'"),
        ("reload {{ name | upper }} {{ port }}", "reload 'A B' '8080'"),
        ("reload {{ missing | default('nginx') }}", "reload 'nginx'"),
        ("reload {{ tls.unit }}-{{ tls['unit'] }}", "reload 'web'-'web'"),
        ("reload {{ 'x' ~ port }}", "reload 'x8080'"),
        ("reload {% if port == 8080 %}a{% else %}b{% endif %}", "reload a"),
        ("reload {{ 'a' if missing is defined else 'b' }}", "reload 'b'"),
        ("  reload {{ port }}\n", "reload '8080'"),
        ("echo 'it is' \"so\" && reload {{ port }}", "echo 'it is' \"so\" && reload '8080'"),
        ("echo $(date) # `no value` ${HERE}", "echo $(date) # `no value` ${HERE}"),
        ("cat <{{ name }} && [ -e {{ name }} ]", "cat <'a b' && [ -e 'a b' ]"),
        ("({{ port }}; [[ -e x ]])", "('8080'; [[ -e x ]])"),
        ("reload {{ inventory_hostname }}", "reload 'web1'"),
    ],
)
def test_a_hook_is_rendered_for_its_host(template: str, command: str) -> None:
    assert render(template, name="a b", port=8080, tls={"unit": "web"}) == command


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("reload '{{ x }}'", "stands inside '…'"),
        ('reload "{{ x }}"', 'stands inside "…"'),
        ('reload "\\{{ x }}"', "stands after a"),
        ("reload \\{{ x }}", "stands after a"),
        ("reload ${{ x }}", "stands after a $"),
        ("reload '{% if x %}' a '{% endif %}'", "stands inside '…'"),
        ("reload `cat {{ x }}`", "a command with a substitution"),
        ('reload "$(echo "{{ x }}")"', "a command with a substitution"),
        ("reload ${y:{{ x }}}", "a command with a substitution"),
        ("# don't\nreload {{ x }} # 'n", "a command with a comment"),
        ("cat <<END\n{{ x }}\nEND", "a command with a here-document"),
        ("cat <{% if a %}<{% endif %}E {{ x }}", "a command with a here-document"),
        ("cat <{% if a %}x{% else %}<{% endif %}E {{ x }}", "a command with a here-document"),
        ("cat <{% if a %}{% if b %}<{% endif %}{% endif %}E {{ x }}", "a command with a here-document"),
        ("cat <\\\n<E {{ x }}", "a command with a here-document"),
        ("({% if a %}({% endif %} {{ x }} ))", "a command with arithmetic"),
        ("reload $\\\n{{ x }}", "a command with a $ at the end of a line"),
        ("ls [{{ x }}]", "a value in a glob's brackets"),
        ("ls a[b'c d'{{ x }}]", "a value in a glob's brackets"),
        ("ls [{% if a %} {% else %}b{% endif %}{{ x }}]", "a value in a glob's brackets"),
        ("{{ y }}# don't {{ x }}", "a command with a comment"),
        ("echo $(( {{ x }} ))", "a command with"),
        ("echo $[ {{ x }} ]", "a command with arithmetic"),
        ("echo $'a' {{ x }}", "a command with $'"),
        ('echo $"a" {{ x }}', 'a command with $"'),
        ("reload {{ x }} 'oops", "it ends inside '…'"),
        ("{{ x.upper() }}", "found a template's call"),
        ("{{ x * 99999999 }}", "found a template's mul"),
        ("{{ range(999999999) }}", "found a template's call"),
        ("{% for a in x %}{{ a }}{% endfor %}", "found a template's for"),
        ("{% set y = x %}{{ y }}", "found a template's assign"),
        ("{% macro a() %}{% endmacro %}", "found a template's macro"),
        ("{% include 'a' %}", "found a template's include"),
        ("{% import 'a' as b %}", "found a template's import"),
        ("{{ x | safe }}", "unknown filter 'safe'; allowed: default, lower, trim, upper"),
        ("{{ x is odd }}", "unknown test 'odd'; allowed: defined, undefined"),
        (" \n ", "all blank"),
        ("x" * (MAX_CHARACTERS + 1), "4001 characters long"),
        ("a\0b", "cannot be printed"),
        ("{{ x", "the hook is no template: unexpected end of template"),
        ("{{ " + "(" * 1900, "nested too deeply"),
    ],
)
def test_a_template_that_is_not_safe_for_every_value_is_refused(template: str, reason: str) -> None:
    with pytest.raises(InputError) as refused:
        check_hook(template, place=PLACE)
    assert refused.value.message.startswith("playbook.yml:7:22: ")
    assert reason in refused.value.message


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "found True; allowed: text or a whole number"),
        (1.5, "found 1.5; allowed: text or a whole number"),
        (None, "found None"),
        ([1], "found [1]"),
        ({"a": 1}, "found {'a': 1}"),
        ("a\nb", "printable characters on one line"),
        ("a\x1b[2J", "printable characters on one line"),
        ("\u202eabc", "printable characters on one line"),
        ("{{ y }}", "found the template '{{ y }}'"),
        ("x" * (MAX_CHARACTERS + 1), "found 4001 characters"),
    ],
)
def test_a_value_that_is_no_word_is_refused_with_the_host_and_the_variable(value: Any, reason: str) -> None:
    with pytest.raises(InputError) as refused:
        render("reload {{ unit }}", unit=value)
    assert "the hook for host web1 cannot be made from unit: " in refused.value.message
    assert reason in refused.value.message


def test_a_variable_that_is_not_set_is_refused_with_the_host_and_the_variable() -> None:
    with pytest.raises(InputError, match="host web1 cannot be made: 'unit' is undefined") as refused:
        render("reload {{ unit }}")
    assert "set unit for this host" in refused.value.hint


def test_a_variable_with_a_default_is_not_called_missing() -> None:
    command = "start {{ unit }} {{ port | default(1) }}{% if name is defined %} {{ name }}{% endif %}"
    with pytest.raises(InputError, match="'unit' is undefined") as refused:
        render(command)
    assert refused.value.hint == "set unit for this host, or give it a value with | default('…')"


@pytest.mark.parametrize(
    "template", ["{{ x.__class__ }}", "{{ x.__class__.__mro__ }}", "{{ x['__class__'] }}"]
)
def test_a_template_cannot_reach_into_the_program(template: str) -> None:
    with pytest.raises(InputError, match="host web1"):
        render(template, x="text")


def test_a_method_is_no_value() -> None:
    with pytest.raises(InputError, match="text or a whole number"):
        render("{{ x.format }}", x="text")


def test_an_expression_that_fails_is_refused() -> None:
    with pytest.raises(InputError, match="the hook for host web1 cannot be made"):
        render("{{ 'a' if x < 'b' else 'c' }}", x=1)


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(InputError, match="the hook for host web1 is empty"):
        render("{% if x %}reload{% endif %}", x=False)


def test_a_command_that_grows_too_long_is_refused() -> None:
    with pytest.raises(InputError, match="is 6009 characters long; allowed: 1 to 4000"):
        render("a {{ x }}{{ x }}{{ x }}b", x="y" * 2000)


def test_a_hook_may_name_the_hosts_variables_its_name_and_its_base() -> None:
    inventory = inventory_of({"servers": ["s1", "s2"]}, {"s1": {"unit": "web", "keyrelay_base": "/opt/k"}})
    template = "reload {{ inventory_hostname }} {{ keyrelay_base }} {{ unit | default('none') }}"
    commands = [
        render_hook(template, host_variables(inventory, HostName(name)), place=PLACE) for name in ("s1", "s2")
    ]
    assert commands == ["reload 's1' '/opt/k' 'web'", "reload 's2' '/etc/keyrelay' 'none'"]


@pytest.mark.parametrize("name", ["ansible_become_password", "ansible_become_pass", "ansible_ssh_pass"])
def test_passwords_are_no_variables_of_a_hook(name: str) -> None:
    inventory = inventory_of({"servers": ["s1"]}, {"s1": {name: "hunter2", "unit": "web"}})
    assert name not in host_variables(inventory, HostName("s1"))
    with pytest.raises(InputError, match=name):
        render_hook(f"reload {{{{ {name} }}}}", host_variables(inventory, HostName("s1")), place=PLACE)
