"""Where the process begins: ``keyrelay``, and ``python -m orchestrator.cli`` where it is not installed.

What the program imports takes the better part of a second. Ctrl-C in it ends the process as a signal does,
without a word, since nothing has been done yet; from then on ``main.end_of`` tells of it.
"""

import signal


def run() -> None:
    """Import the program and run it; ends the process."""
    told = signal.getsignal(signal.SIGINT)
    if told is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from orchestrator.cli import main  # noqa: PLC0415 - this is what takes its time

    signal.signal(signal.SIGINT, told)
    main.run()


if __name__ == "__main__":
    run()
