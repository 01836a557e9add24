"""Keys that have ended, as others than a restored ledger remember it: hosts, or a later ledger (S9)."""

from collections.abc import Iterator, Mapping

from orchestrator.keys.material import SpkiDigest
from orchestrator.rotation.lifecycle import KeyState
from orchestrator.rotation.recorded import Recorded
from orchestrator.rotation.sight import Ending, Sight


def ended_in(recorded: Recorded) -> Mapping[SpkiDigest, Ending]:
    """The keys that have ended by a ledger, for one that is behind it (``Sight.ended``)."""
    return {
        credential.public.spki_digest: Ending(
            leaked=credential.ended is not None,
            why=f"the later ledger calls it {credential.ended or credential.state}",
        )
        for credential in recorded.credentials.values()
        if credential.public is not None
        and (credential.ended is not None or credential.state is KeyState.REMOVED)
    }


def ended_keys(recorded: Recorded, sight: Sight) -> Mapping[SpkiDigest, Ending]:
    """The keys that have ended by the word of any host or of a later ledger; leaked where any says so."""
    strongest: dict[SpkiDigest, Ending] = {}
    for key, ending in _words(recorded, sight):
        if key not in strongest or (ending.leaked and not strongest[key].leaked):
            strongest[key] = ending
    return strongest


def _words(recorded: Recorded, sight: Sight) -> Iterator[tuple[SpkiDigest, Ending]]:
    """Every word of a key that has ended, with who says so.

    An agent's tombstone is one such word. Another is its bundle: one that denies the key; or one that came
    after the bundle that the ledger knows of, still names the server, and not the key.
    """
    for agent, survey in sorted(sight.surveys.items()):
        record = recorded.agents.get(agent)
        before = record.installed if record is not None else None
        if before is None or survey.bundle is None or survey.bundle.position <= before.position:
            continue
        heard = {edge.server for edge in survey.bundle.edges}
        heard |= {line.server for line in survey.bundle.delegations}
        there = {edge.key for edge in survey.bundle.edges}
        for line in before.lines:
            public = recorded.credentials[line.credential].public if line.credential else None
            if public is not None and line.server in heard and public.spki_digest not in there:
                why = f"{agent} has dropped it since the backup"
                yield public.spki_digest, Ending(leaked=False, why=why)
    for host, survey in sorted(sight.surveys.items()):
        for key in survey.bundle.denied if survey.bundle is not None else ():
            yield key, Ending(leaked=True, why=f"{host} denies it")
        for stone in survey.ended:
            why = f"{host} remembers it as {stone.how}"
            yield stone.key, Ending(leaked=stone.how != "removed", why=why)
    yield from sight.ended.items()
