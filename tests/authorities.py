"""Keys for authorities that tests make up."""

from orchestrator.keys.authority import AUTHORITY_ALGORITHM
from orchestrator.keys.kinds import Signer
from orchestrator.keys.material import Random, generate, open_signer


def new_signer(random: Random) -> Signer:
    """A private key for a root or an issuer."""
    return open_signer(generate(AUTHORITY_ALGORITHM, random=random).private)
