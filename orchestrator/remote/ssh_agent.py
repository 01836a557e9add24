"""ssh-agent: keys that sign without being shown (draft-ietf-sshm-ssh-agent).

An agent is asked for its keys once a run. It may ask a person before it signs, and it may hang: each request
has its time, and an agent that let one pass is not asked again.
"""

import socket
import threading
from typing import Any

import paramiko
from paramiko.agent import AgentKey, AgentSSH

_LIST_S = 5.0
_SIGN_S = 30.0


class AgentError(Exception):
    """An agent cannot be asked; the message says which and why."""


class SshAgent(AgentSSH):
    """One agent. Safe to use from many threads, which wait for each other.

    Args:
        path: its socket.

    Raises:
        AgentError: nobody answers there.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_LIST_S)
        try:
            self._socket.connect(path)
            self._connect(self._socket)  # type: ignore[attr-defined]  # left out of the stubs
        except FileNotFoundError as error:
            self._socket.close()
            raise AgentError(f"there is no ssh-agent at {path} (SSH_AUTH_SOCK or IdentityAgent)") from error
        except (OSError, paramiko.SSHException) as error:
            self._socket.close()
            raise AgentError(f"ssh-agent at {path} does not answer; start it anew") from error
        self._socket.settimeout(_SIGN_S)

    def close(self) -> None:
        """Ends the conversation."""
        self._socket.close()

    def _send_message(self, msg: Any) -> Any:
        """One request and its answer; ``SSHException`` when the agent does not answer in time."""
        with self._lock:
            try:
                return super()._send_message(msg)  # type: ignore[misc]  # left out of the stubs
            except OSError as error:
                # What comes later would be taken for the answer to another request.
                self._socket.close()
                raise paramiko.SSHException(f"ssh-agent at {self.path} does not answer") from error


def is_certificate(key: AgentKey) -> bool:
    """Whether an agent's entry is a certificate."""
    return key.get_name().endswith("-cert-v01@openssh.com")
