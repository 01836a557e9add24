"""``python -m orchestrator.cli``: keyrelay where it is not installed."""

from orchestrator.cli.main import run

run()
