"""What people call keys and rollouts by: the beginning of a thumbprint or an id."""

from orchestrator.errors import UsageError
from orchestrator.rotation.recorded import Credential, Recorded, Rollout

_ALL_KEYS = "List the keys with: keyrelay cert list"


def credential_named(recorded: Recorded, key: str) -> Credential:
    """The credential whose thumbprint (or id) is or begins with ``key``.

    Raises:
        UsageError: none, or several.
    """
    found = [
        credential
        for credential in recorded.credentials.values()
        if credential.id.startswith(key)
        or (credential.public is not None and credential.public.thumbprint.startswith(key))
    ]
    if not key:
        raise UsageError("an empty text names no key", hint=_ALL_KEYS)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"the ledger knows no key whose thumbprint begins with {key!r}", hint=_ALL_KEYS)
    raise UsageError(f"{len(found)} keys begin with {key!r}", hint="Give more of the thumbprint.")


def rollout_named(recorded: Recorded, name: str) -> Rollout:
    """The rollout whose id is or begins with ``name``.

    Raises:
        UsageError: none, or several.
    """
    found = [rollout for rollout in recorded.rollouts.values() if rollout.id.startswith(name)]
    hint = "List them with: keyrelay rollout list"
    if not name:
        raise UsageError("an empty text names no rollout", hint=hint)
    if len(found) == 1:
        return found[0]
    count = "no rollout begins" if not found else f"{len(found)} rollouts begin"
    raise UsageError(f"{count} with {name!r}", hint=hint)


def name_of(credential: Credential) -> str:
    """How people speak of a credential: by the beginning of its thumbprint once it is made."""
    if credential.public is None:
        return f"a new {credential.key.algorithm} key of {credential.scope}"
    return f"key {credential.public.thumbprint[:10]} of {credential.scope}"


def ending_of(credential: Credential) -> str:
    """What a person has said of the end of a key; empty: nothing."""
    if credential.ended is None or credential.ended_since is None:
        return ""
    return f"{credential.ended} since {credential.ended_since:%Y-%m-%d %H:%M:%SZ}: {credential.ended_why}"
