"""The sessions that README and tutorial show, typed word for word into a shell, print what the pages say."""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parents[2]
LINES, COLUMNS = 50, 110
PROMPT = "(what is typed next)"
TIMEOUT_S = 300

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"(?<![\w-])([\w-]{10})[\w-]{33}(?![\w-])|(?<=key )([\w-]{10})(?= of )")
# What is another in each run, and says nothing more than that it is there.
_OTHER_EACH_TIME = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b(in|since) (\d+m )?\d+s\b"), r"\1 SPAN"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "DIGEST"),
    (re.compile(r"\b1[0-9]{9}\b"), "INSTANT"),
    (re.compile(r"\b\d+ entries\b"), "NUMBER entries"),
    (re.compile(r"/srv/\w+(/first-fleet)?"), "FOLDER"),
)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Each command that a page has one type, and what the page says it printed."""
    for language, body in _FENCE.findall(page):
        if language == "console":
            for step in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, printed = step.partition("\n")
                yield command, printed
        elif not language:
            yield from ((command, "") for command in body.splitlines())


@dataclass(slots=True)
class Names:
    """Which key of this run stands where a page has another, by the order in which they first appear."""

    of_the_page: list[str] = field(default_factory=list)
    of_this_run: list[str] = field(default_factory=list)

    def learn(self, printed: str, told: str) -> None:
        for text, known in ((printed, self.of_this_run), (told, self.of_the_page)):
            for found in _KEY.finditer(text):
                if (key := found[1] or found[2]) not in known:
                    known.append(key)

    def as_here(self, command: str) -> str:
        """A command of the page, with the keys of this run."""
        for theirs, ours in zip(self.of_the_page, self.of_this_run, strict=True):
            command = command.replace(theirs, ours)
        return command

    def words(self, text: str, keys: list[str]) -> list[str]:
        """The words of an output, in an order that tables folded elsewhere share."""
        for number, key in enumerate(keys):
            text = re.sub(rf"(?<![\w-]){re.escape(key)}([\w-]{{33}})?(?![\w-])", f"KEY-{number}", text)
        for pattern, word in _OTHER_EACH_TIME:
            text = pattern.sub(word, text)
        return sorted(re.findall(r"[^\s;,]+", text))


def type_it(folder: Path, session: Iterator[tuple[str, str]]) -> None:
    """Types a page's commands into one shell, and compares."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("KEYRELAY_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        # Prints no colours and no progress; such a terminal has to be told how wide it is.
        "TERM": "dumb",
        "LINES": str(LINES),
        "COLUMNS": str(COLUMNS),
    }
    shell = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile"],
        cwd=folder,
        env=environment,
        echo=False,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        dimensions=(LINES, COLUMNS),
    )
    shell.sendline(f"PS1='{PROMPT}' PROMPT_COMMAND= && bind 'set enable-bracketed-paste off'")
    shell.expect_exact(PROMPT)
    names = Names()
    try:
        for command, told in session:
            here = names.as_here(command)
            shell.sendline(here)
            shell.expect_exact(PROMPT)
            printed = str(shell.before).replace("\r", "").replace(str(folder), "/srv/here")
            names.learn(printed, told)
            expected, found = names.words(told, names.of_the_page), names.words(printed, names.of_this_run)
            assert found == expected, f"$ {here}\n{printed}\n-- the page says:\n{told}"
    finally:
        shell.sendline("keyrelay lab down lab")
        shell.expect_exact(PROMPT)
        shell.close()


@pytest.mark.long
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_a_session_prints_what_the_page_shows(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    _, heading, session = text.partition("## One session")
    type_it(tmp_path, steps(session if heading else text.partition("## 2. ")[2]))
