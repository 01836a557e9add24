"""Becoming another user on a host before anything is said to it: sudo or doas.

The exec string is the constant bootstrap, run by ``sudo`` or ``doas``; the only word in it that comes from an
inventory is the plain name of an account. The program and its frames are sent when the other side has said,
as that user, that it is ready. sudo reads a password from standard input (``-S``) and says before that it
wants one (``-p``), so the password is sent alone, only when it is wanted, and once: a second question means
that it was wrong. doas reads passwords from terminals only, and gets none.
"""

import re
import shlex
from dataclasses import dataclass
from time import monotonic

import paramiko

from orchestrator.inventory.endpoints import Become, BecomeMethod
from orchestrator.keys.secret import Secret
from orchestrator.remote.answer_lines import plain
from orchestrator.remote.deadlines import Watch
from orchestrator.remote.handshake import BROKEN, NotReachedError
from orchestrator.remote.wire import BOOTSTRAP

SOMETHING_ELSE = (
    "something else ran than what was asked for: look for ForceCommand in sshd_config, command= in "
    "authorized_keys, force-command in the user's certificate, and at the login shell and its start-up files"
)
PERHAPS = f"perhaps {SOMETHING_ELSE}"
READY = b"\nkeyrelay ready\n"
PROMPT = "[keyrelay] password:"
_INNER = re.fullmatch(r"exec sh -c '([^']+)'", BOOTSTRAP)
_PATIENCE_S = 30.0
_STATUS_S = 1.0
_LIMIT_BYTES = 65536
_CHUNK_BYTES = 4096

_NOPASS = "add to doas.conf: permit nopass {login} as {user}"
_NOT_ACCEPTED = (
    "sudo does not accept the password of {login!r}, which is sent only once, for accounts are locked after "
    "a few; run again and type it anew, or mend ansible_become_password"
)

# What sudo and doas say, in the order in which it is looked for; they run with LC_ALL=C.
_MEANINGS = tuple(
    (re.compile(words), meaning)
    for words, meaning in (
        (
            "must have a tty",
            "sudo wants a terminal, and keyrelay uses none; add to sudoers: Defaults:{login} !requiretty",
        ),
        ("incorrect password|sorry, try again", _NOT_ACCEPTED),
        (
            "not in the sudoers file|may not run sudo|not allowed to run sudo",
            "{login!r} may not use sudo on this host; add it to sudoers",
        ),
        (
            "not allowed to execute",
            "sudo does not let {login!r} run sh as {user!r}; add to sudoers: {login} ALL=({user}) ALL",
        ),
        ("unknown user", "there is no user {user!r} on the host"),
        (
            "authentication required|tty is required|authorization required",
            f"doas wants a password, which it reads from terminals only; {_NOPASS}",
        ),
        ("doas: .*not permitted", f"doas does not let {{login!r}} become {{user!r}}; {_NOPASS}"),
        ("doas is not enabled", f"doas is not set up on this host; {_NOPASS}"),
        ("account validation failure", "sudo says that the account {login!r} is locked or has expired"),
        (
            "effective uid is not 0|no new privileges",
            "sudo cannot become root there: it is not set-uid root, or new privileges are forbidden",
        ),
        (
            "(sudo|doas)\\W.*(no such file|not found)|not found.*(sudo|doas)",
            "{method} is not installed, or not in this login's PATH; ansible_become_method names another",
        ),
    )
)


class NotBecomeError(NotReachedError):
    """The login user does not become the one that is wanted; trying again would not help."""


class PasswordWantedError(Exception):
    """sudo wants a password, and none was given; nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """One time of becoming another user.

    Attributes:
        login: who logged in.
        password: None: none is known.
        forced: as ``Connection.forced``.
    """

    become: Become
    login: str
    password: Secret | None
    forced: str = ""

    @property
    def command(self) -> str:
        """The exec string."""
        if _INNER is None:
            raise ValueError("the bootstrap has another form than the one that is known here")
        inner = f'\'printf "\\n%s\\n" "keyrelay ready"; {_INNER[1]}\''
        user = shlex.quote(self.become.user)
        if self.become.method is BecomeMethod.SUDO:
            return f"exec env LC_ALL=C sudo -H -S -p '{PROMPT}' -u {user} -- sh -c {inner}"
        return f"exec env LC_ALL=C doas -n -u {user} -- sh -c {inner}"

    def wait_until_ready(self, channel: paramiko.Channel, watch: Watch) -> None:
        """Returns when the other user is ready to be told what to do.

        Raises:
            PasswordWantedError: a password is wanted and none is known.
            NotBecomeError: it does not come to that; says why.
        """
        channel.set_combine_stderr(True)
        heard = bytearray()
        began = monotonic()
        until = began + min(_PATIENCE_S, watch.left_s)
        answered = False
        while READY not in heard:
            if heard.rstrip().endswith(PROMPT.encode()):
                if answered:
                    raise NotBecomeError(self._filled(_NOT_ACCEPTED))
                if self.password is None:
                    raise PasswordWantedError
                answered = True
                heard.clear()
                _say(channel, self.password)
            try:
                chunk = channel.recv(_CHUNK_BYTES)
            except TimeoutError:
                chunk = None
            except BROKEN:
                chunk = b""
            heard += chunk or b""
            if watch.expired or (chunk is None and monotonic() >= until):
                raise NotBecomeError(
                    f"{self.become.method} did not let {self.login!r} become {self.become.user!r} "
                    f"within {monotonic() - began:.0f} s; it said: {_last_words(heard) or 'nothing'}; "
                    f"{self.forced or PERHAPS}"
                )
            if chunk == b"" or len(heard) > _LIMIT_BYTES:
                channel.status_event.wait(min(_STATUS_S, watch.left_s))
                raise NotBecomeError(self._refusal(heard, channel))
        channel.set_combine_stderr(False)

    def _refusal(self, heard: bytearray, channel: paramiko.Channel) -> str:
        text = heard.decode(errors="replace").lower()
        for words, meaning in _MEANINGS:
            if words.search(text):
                return f"{self._filled(meaning)} (it said: {_last_words(heard)})"
        status = f" with status {channel.exit_status}" if channel.exit_status >= 0 else ""
        said = f"; it said: {_last_words(heard)}" if heard.strip() else ""
        return (
            f"{self.become.method} ended{status} before {self.login!r} became {self.become.user!r}{said}; "
            f"{self.forced or PERHAPS}"
        )

    def _filled(self, meaning: str) -> str:
        return meaning.format(method=self.become.method, login=self.login, user=self.become.user)


def _say(channel: paramiko.Channel, password: Secret) -> None:
    try:
        channel.sendall(password.reveal() + b"\n")
    except BROKEN as error:
        raise NotReachedError("the connection was lost while sudo asked for a password") from error


def _last_words(heard: bytearray) -> str:
    lines = [
        line for line in heard.decode(errors="replace").splitlines() if line.strip() and PROMPT not in line
    ]
    return plain(" ".join(lines[-3:]))
