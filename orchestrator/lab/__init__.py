"""A fleet of real OpenSSH servers on this machine, for the demo, the tests and the benchmarks.

The lab stands outside the layers of the house: it knows nothing of keys, policies or rollouts, and nothing
but ``cli/lab.py``, tests and benchmarks imports it. Each host is an ``sshd`` process of its own on a loopback
address of its own, with its own host key and folder, so that a test can stop it, freeze it, fill it up or put
another machine in its place while the others go on. Beyond 64 hosts, 16 share an ``sshd`` and its host key.
"""

from orchestrator.lab.fleet import Lab, LabHost
from orchestrator.lab.layout import MAX_HOSTS, host_names
from orchestrator.lab.options import HostOptions

__all__ = ["MAX_HOSTS", "HostOptions", "Lab", "LabHost", "host_names"]
