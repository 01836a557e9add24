"""Anchors among those that a whole host trusts, with the system's own program, in a namespace of mounts."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.policy.stores import System
from orchestrator.rotation.reports import Failed, Refused
from tests.integration.program import SHELLS_BY_TURNS, Machine, programs
from tests.integration.stores import agent_manifest, digests, places, root, run, states, surveyed, trust

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount"),
    pytest.mark.skipif(shutil.which("update-ca-certificates") is None, reason="is Debian's"),
]
FOLDER = "/usr/local/share/ca-certificates"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
MANIFEST = agent_manifest(System(name="fleet"))
BOTH = agent_manifest(System(name="fleet"), roots=(1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host that has files of this machine's own, as copies.

    Attributes:
        pid: of the process that keeps the namespace.
    """

    machine: Machine
    pid: int

    def run(self, *command: str | Path) -> str:
        return run("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", *command)

    def trusted(self) -> set[str]:
        """What is in the bundle that programs read."""
        return set(digests(self.run("cat", BUNDLE)))

    def links(self) -> list[str]:
        """Every name beside the bundle, by which OpenSSL looks a certificate up, and what it leads to."""
        return sorted(self.run("find", Path(BUNDLE).parent, "-printf", "%p %l\n").splitlines())

    def names(self) -> set[str]:
        return set(self.run("ls", "-A", FOLDER).split())


@pytest.fixture(params=SHELLS_BY_TURNS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    path = programs(tmp_path / "bin", request.param)
    keeper = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 600"],
        stdout=subprocess.PIPE,
    )
    try:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        enter = tmp_path / "enter"
        enter.write_text(
            f"#!/bin/dash\nexport PATH={path}:/usr/bin:/bin\n"
            f'exec nsenter --mount=/proc/{keeper.pid}/ns/mnt {path}/sh "$@"\n'
        )
        enter.chmod(0o755)
        machine = Machine(base=tmp_path / "base", path=path, login=(str(enter),))
        made = Host(machine=machine, pid=keeper.pid)
        for folder in (FOLDER, "/etc/ssl/certs"):
            copy = tmp_path / folder.replace("/", "_")
            shutil.copytree(folder, copy, symlinks=True)
            made.run("mount", "--bind", copy, folder)
        made.run("update-ca-certificates", "--fresh")
        yield made
    finally:
        keeper.kill()
        keeper.wait()
        assert keeper.stdout is not None
        keeper.stdout.close()


def test_anchors_come_into_the_bundle_of_the_system_and_leave_it(host: Host) -> None:
    before, files, links = host.trusted(), host.names(), host.links()
    one, two = (digests(root(number).certificate.pem)[0] for number in (1, 2))
    host.machine.report(trust(MANIFEST))

    assert host.trusted() == {*before, one}
    assert host.names() == {*files, f"fleet-{one[:16]}.crt"}
    place = f"{FOLDER}/fleet-{one[:16]}.crt"
    assert host.run("stat", "-c", "%a %U", place) == "644 root\n"
    _, held, problems = surveyed(host.machine)
    assert (states(held), problems) == ({place: "intact"}, {})
    assert places(held)[place].certificates == (one,)
    assert not host.machine.report(trust(MANIFEST)).changed

    host.machine.report(trust(BOTH, 2))
    assert host.trusted() == {*before, one, two}
    host.machine.report(trust(agent_manifest(System(name="fleet"), roots=(2,)), 3))
    assert host.trusted() == {*before, two}
    host.machine.report(trust("", 4))
    assert (host.trusted(), host.names()) == (before, files)
    assert host.links() == links


def test_names_of_another_anchor_with_the_subject_of_one_that_left_still_lead_to_it(host: Host) -> None:
    theirs = f"{FOLDER}/zz-theirs.crt"
    host.machine.report(trust(MANIFEST))
    host.run("sh", "-c", 'printf %s "$1" >"$2"', "-", root(2).certificate.pem, theirs)
    host.run("update-ca-certificates")
    host.machine.report(trust("", 2))
    (one,) = digests(root(1).certificate.pem)

    assert not [link for link in host.links() if one[:16] in link]
    assert host.run("openssl", "verify", "-no-CAfile", "-CApath", str(Path(BUNDLE).parent), theirs)


def test_a_visit_that_broke_off_with_the_anchor_gone_and_the_bundle_old_is_ended_by_the_next(
    host: Host,
) -> None:
    before, links = host.trusted(), host.links()
    host.machine.report(trust(MANIFEST))
    (one,) = digests(root(1).certificate.pem)
    host.run("rm", f"{FOLDER}/fleet-{one[:16]}.crt")
    host.machine.report(trust("", 2))

    assert (host.trusted(), host.links()) == (before, links)


def test_an_anchor_that_fell_out_of_the_bundle_is_told_and_comes_back(host: Host) -> None:
    host.machine.report(trust(MANIFEST))
    (one,) = digests(root(1).certificate.pem)
    place = f"{FOLDER}/fleet-{one[:16]}.crt"
    host.run("mv", place, "/tmp/aside")
    host.run("update-ca-certificates")
    host.run("mv", "/tmp/aside", place)
    _, held, _ = surveyed(host.machine)
    assert states(held) == {place: "missing"}

    assert host.machine.report(trust(MANIFEST)).changed
    assert one in host.trusted()


def test_a_file_of_that_name_that_is_somebody_elses_is_refused(host: Host) -> None:
    (one,) = digests(root(1).certificate.pem)
    place = f"{FOLDER}/fleet-{one[:16]}.crt"
    host.run("touch", place)
    outcome = host.machine.run(trust(MANIFEST))

    assert isinstance(outcome, Failed)
    assert f"could not be filled: {place} is there and is not keyrelay's" in outcome.reason
    assert host.machine.report(trust(agent_manifest(System(name="fleet", adopt=True)))).changed


def test_a_folder_that_the_group_staff_may_write_to_is_debians_and_good(host: Host) -> None:
    host.run("chgrp", "staff", FOLDER)
    host.run("chmod", "2775", FOLDER)
    assert host.machine.report(trust(MANIFEST)).changed
    host.run("chgrp", "users", FOLDER)
    outcome = host.machine.run(trust(BOTH, 2))

    assert isinstance(outcome, Failed)
    assert (
        f"could not be filled: {FOLDER} has mode 2775, expected writable by its owner only" in outcome.reason
    )
    host.run("chgrp", "staff", FOLDER)
    host.run("chown", "12345", FOLDER)
    assert isinstance(host.machine.run(trust(BOTH, 2)), Refused)


def test_a_host_with_update_ca_trust_gets_them_where_that_looks(host: Host, tmp_path: Path) -> None:
    """No system but Red Hat's has that program, so one that does the same to one folder stands in for it."""
    anchors, bundle = "/etc/pki/ca-trust/source/anchors", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
    (tmp_path / "pki/ca-trust/source/anchors").mkdir(parents=True)
    (tmp_path / "pki/ca-trust/extracted/pem").mkdir(parents=True)
    update = host.machine.path / "update-ca-trust"
    update.write_text(f"#!/bin/sh\ncat {anchors}/*.pem >{bundle} 2>/dev/null || : >{bundle}\n")
    update.chmod(0o755)
    nothing = tmp_path / "nothing"
    nothing.touch(mode=0o600)
    host.run("mount", "--bind", nothing, "/usr/sbin/update-ca-certificates")
    host.run("mount", "-t", "tmpfs", "none", "/etc")
    host.run("cp", "-a", tmp_path / "pki", "/etc/pki")
    (one,) = digests(root(1).certificate.pem)
    host.machine.report(trust(MANIFEST))

    assert digests(host.run("cat", bundle)) == [one]
    _, held, problems = surveyed(host.machine)
    assert (states(held), problems) == ({f"{anchors}/fleet-{one[:16]}.pem": "intact"}, {})
    assert host.machine.report(trust("", 2)).changed
    assert host.run("cat", bundle) == ""
