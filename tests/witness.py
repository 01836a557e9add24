"""A process of its own that watches the files of a lab's hosts (``orchestrator/lab/watcher.py``)."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOG = logging.getLogger(__name__)


@contextmanager
def watching(lab: Path, report: Path) -> Iterator[None]:
    """Fails if an agent ever lost a server; logs how often the process looked.

    Args:
        lab: the lab's folder.
        report: where the process writes what it saw.
    """
    report.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.lab.watcher", lab, "--report", report],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait(60)
    told = json.loads(report.read_text(encoding="ascii"))
    LOG.info("%s: %d looks, %d moments without trust", report.parent.name, told["looks"], told["moments"])
    assert told["looks"] > 0
    assert not told["moments"], f"{told['moments']} of {told['looks']} looks: {told['examples']}"
