"""What only a person knows: passphrases and passwords, asked for while hosts wait.

A visit that needs one asks in the thread that waits for the run's outcomes, for only there is a terminal
free to be read; the visit's time does not run meanwhile. Answers stay in memory, each question is asked once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.keys.secret import Secret
from orchestrator.remote.deadlines import Watch


class Wanted(StrEnum):
    """Kinds of secret."""

    PASSPHRASE = "passphrase"  # noqa: S105 - a word, not a secret
    """Of a file with a key to log in with."""
    PASSWORD = "password"  # noqa: S105 - a word, not a secret
    """By which sudo lets a login user become another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to ask; equal questions have one answer.

    Attributes:
        about: the file of a key, or the login user, who is taken to have one password on all hosts.
    """

    wanted: Wanted
    about: str

    def __str__(self) -> str:
        match self.wanted:
            case Wanted.PASSPHRASE:
                return f"Passphrase of the login key {self.about}"
            case Wanted.PASSWORD:
                return f"Password of {self.about}, for sudo"


Ask = Callable[[Question], Secret | None]
"""Answers a question; None: there is nobody to ask."""

AskInVisit = Callable[[Question, Watch], Secret | None]
"""The same from within a visit, whose watch stands still meanwhile."""


class Answers:
    """Answers by question, asked for once each. For one thread at a time."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[Question, Secret | None] = {}

    def of(self, question: Question) -> Secret | None:
        """The answer, asked for if need be."""
        if question not in self._known:
            self._known[question] = self._ask(question)
        return self._known[question]

    def known(self, question: Question) -> Secret | None:
        """The answer if it was given before."""
        return self._known.get(question)


def nobody(question: Question, watch: Watch | None = None) -> None:
    """Where there is nobody to ask."""
    del question, watch
