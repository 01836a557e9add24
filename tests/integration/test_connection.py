"""Connections to real sshds, and to listeners that are none: whatever goes wrong has its sentence."""

import os
import re
import shlex
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

import paramiko
import pytest

from orchestrator.inventory.model import Endpoint, HostName
from orchestrator.keys.secret import Secret
from orchestrator.lab import HostOptions, Lab
from orchestrator.remote import connection
from orchestrator.remote.connection import Answer
from orchestrator.remote.deadlines import Watch, Watchdog
from orchestrator.remote.dial import Dialer, Patience
from orchestrator.remote.handshake import NotReachedError, Peer
from orchestrator.remote.host_keys import check_host_key
from orchestrator.remote.known_hosts import KnownHosts
from tests.fleet_worlds import SystemClock

MakeLab = Callable[..., Lab]
HOST = "server-01"
LONG_S = 60.0
NO_TEXT = struct.pack(">I", 2) + b"\xff\xfe"
"""Where SSH asks for text: its length, and bytes that are none."""


def packet(payload: bytes) -> bytes:
    """What SSH sends before it has agreed on a cipher (RFC 4253, 6)."""
    padding = 16 - (len(payload) + 5) % 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def entropy(size_bytes: int) -> bytes:
    return os.urandom(size_bytes)  # noqa: TID251 - waits need not repeat


def endpoint(lab: Lab, name: str = HOST) -> Endpoint:
    host = lab.host(name)
    return Endpoint(
        host=HostName(name),
        address=host.address,
        port=host.port,
        user=lab.user,
        key_file=str(lab.key_file),
        known_hosts=str(lab.known_hosts),
    )


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    with Watchdog() as watchdog:
        yield watchdog


@pytest.fixture
def watch(watchdog: Watchdog) -> Watch:
    return watchdog.watch(LONG_S)


@pytest.fixture
def dialer() -> Dialer:
    return Dialer(entropy=entropy, clock=SystemClock())


def ask(
    dialer: Dialer, where: Endpoint, watch: Watch, command: str, message: bytes = b"", *, limit: int = 1 << 20
) -> Answer:
    connection = dialer.connect(where, watch)
    try:
        return connection.ask(
            command,
            Secret(message),
            watch,
            limit_bytes=limit,
            complete=lambda stdout: stdout.endswith(b"END\n"),
        )
    finally:
        connection.close()


def reason(dialer: Dialer, where: Endpoint, watch: Watch) -> str:
    with pytest.raises(NotReachedError) as caught:
        dialer.connect(where, watch)
    return caught.value.reason


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    """Something that accepts connections on a port of its own and is no sshd."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_ends: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                open_ends.append(client)
                serve(client)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield Endpoint(host=HostName("it"), address="127.0.0.1", port=server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in open_ends:
                client.close()


def test_what_goes_in_comes_out_however_long(lab: Lab, dialer: Dialer, watch: Watch) -> None:
    message = entropy(3_000_000)

    answer = ask(dialer, endpoint(lab), watch, "cat; echo END", message, limit=1 << 22)

    assert answer == Answer(stdout=message + b"END\n")


def test_several_things_are_asked_over_one_connection(lab: Lab, dialer: Dialer, watch: Watch) -> None:
    connection = dialer.connect(endpoint(lab), watch)

    answers = [
        connection.ask("echo END", Secret(b""), watch, limit_bytes=99, complete=lambda out: b"END" in out)
        for _ in range(3)
    ]

    assert connection.alive
    connection.close()
    assert [answer.stdout for answer in answers] == [b"END\n"] * 3
    assert not connection.alive


def test_a_program_that_does_not_listen_is_told_by_its_status_and_its_last_words(
    lab: Lab, dialer: Dialer, watch: Watch
) -> None:
    answer = ask(dialer, endpoint(lab), watch, "exec >&2 <&-; echo no such thing; exit 7", b"x" * 3_000_000)

    assert answer.exit_status == 7
    assert answer.stderr == b"no such thing\n"


def test_an_answer_without_end_is_cut_and_so_are_last_words_without_end(
    lab: Lab, dialer: Dialer, watch: Watch
) -> None:
    started = monotonic()

    endless = ask(dialer, endpoint(lab), watch, "yes", b"x" * 5_000_000, limit=100_000)
    chatty = ask(dialer, endpoint(lab), watch, "seq 1 200000 >&2; exit 3")

    assert endless.broken is not None
    assert len(endless.stdout) < 200_000
    assert (chatty.exit_status, len(chatty.stderr)) == (3, 4096)
    assert monotonic() - started < LONG_S


def test_a_process_left_behind_does_not_hold_an_answer_that_is_whole(
    lab: Lab, dialer: Dialer, watch: Watch
) -> None:
    started = monotonic()

    answer = ask(dialer, endpoint(lab), watch, "sleep 300 & echo END")

    assert answer.broken is None
    assert monotonic() - started < LONG_S
    lab.stop(HOST)


def test_an_unknown_host_key_is_told_with_its_fingerprint_and_the_file(
    lab: Lab, dialer: Dialer, watch: Watch, tmp_path: Path
) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("# nobody\n")
    where = replace(endpoint(lab), known_hosts=str(known_hosts))
    shown = subprocess.run(
        ["ssh-keygen", "-lf", lab.directory / "control" / HOST / "host_key.pub"],
        check=True, capture_output=True, text=True,
    ).stdout.split()[1]  # fmt: skip

    assert reason(dialer, where, watch) == (
        f"host key of '{HOST}' is unknown: found {shown}, nothing for [{where.address}]:{where.port} "
        f"in {known_hosts}; compare it with the host's own, then add it there, or --accept-new-host-keys "
        "believes such keys once and records them"
    )


def test_a_changed_host_key_is_told_with_both_fingerprints_and_the_line(
    lab: Lab, dialer: Dialer, watch: Watch
) -> None:
    lab.replace_host_key(HOST)

    said = reason(dialer, endpoint(lab), watch)

    assert said.startswith(f"host key of '{HOST}' changed: found SHA256:")
    assert ", expected SHA256:" in said
    assert f"({lab.known_hosts}:1); " in said
    assert "ask the host itself" in said
    assert "if the new key is its own, say so with --host-key" in said
    forget = re.search(r"(ssh-keygen .*), and add the new one", said)
    assert forget is not None
    subprocess.run(shlex.split(forget[1]), check=True, capture_output=True)
    assert "is unknown: found SHA256:" in reason(
        Dialer(entropy=entropy, clock=SystemClock()), endpoint(lab), watch
    )


def test_a_known_host_key_that_is_not_the_one_vouched_for_is_refused_before_the_login(
    lab: Lab, watch: Watch
) -> None:
    host = lab.host(HOST)
    (known,) = KnownHosts.read([lab.known_hosts]).about(host.address, host.port).keys
    another = f"SHA256:{'A' * 43}"
    dialer = Dialer(entropy=entropy, clock=SystemClock(), vouched={HostName(HOST): another})
    assert reason(dialer, endpoint(lab), watch) == (
        f"host key of '{HOST}' is not the one that was vouched for: "
        f"found {known.fingerprint}, expected {another}"
    )
    right = Dialer(entropy=entropy, clock=SystemClock(), vouched={HostName(HOST): known.fingerprint})
    assert ask(right, endpoint(lab), watch, "echo END").broken is None


def test_a_host_known_by_a_key_of_another_type_is_told_so(
    lab: Lab, dialer: Dialer, watch: Watch, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "key"], check=True)
    where = endpoint(lab)
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[{where.address}]:{where.port} {(tmp_path / 'key.pub').read_text()}")

    said = reason(dialer, replace(where, known_hosts=str(known_hosts)), watch)

    found, known = r"found SHA256:\S+ \(ssh-ed25519\)", r"expected SHA256:\S+ \(ecdsa-sha2-nistp256, .*:1\)"
    assert re.search(rf"is of another type than the known one: {found}, {known}; somebody may be", said)


@pytest.mark.parametrize(
    ("mark", "words"), [("@revoked", "is revoked: found SHA256:"), ("@cert-authority", "is unknown")]
)
def test_marked_lines_let_nobody_in(
    lab: Lab, dialer: Dialer, watch: Watch, tmp_path: Path, mark: str, words: str
) -> None:
    known_hosts = tmp_path / "known_hosts"
    line = lab.known_hosts.read_text().splitlines()[0]
    known_hosts.write_text(f"{mark} {line}\n")

    said = reason(dialer, replace(endpoint(lab), known_hosts=str(known_hosts)), watch)

    assert words in said
    assert f"({known_hosts}:1)" in said


def test_a_known_hosts_file_that_is_missing_or_damaged_is_named(
    lab: Lab, dialer: Dialer, watch: Watch, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_text("rubbish\n")
    for file, words in ((tmp_path / "none", "does not exist"), (damaged, "damaged:1: not a line of known")):
        assert words in reason(dialer, replace(endpoint(lab), known_hosts=str(file)), watch)
    assert "cannot be read" in reason(dialer, replace(endpoint(lab), known_hosts=str(tmp_path)), watch)


def test_without_a_file_in_the_inventory_openssh_s_own_known_hosts_and_keys_are_used(
    lab: Lab, dialer: Dialer, watch: Watch, home: Path
) -> None:
    where = replace(endpoint(lab), known_hosts=None, key_file=None)
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "id_ed25519").write_bytes(lab.key_file.read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    (home / ".ssh" / "known_hosts").write_bytes(lab.known_hosts.read_bytes())

    dialer.connect(where, watch).close()


def test_a_user_or_key_that_is_not_accepted_is_named(
    lab: Lab, dialer: Dialer, watch: Watch, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    other_key = replace(endpoint(lab), key_file=str(tmp_path / "key"))
    nobody = replace(endpoint(lab), user="no-such-user")

    assert reason(dialer, nobody, watch) == (
        f"no such user or key not accepted for 'no-such-user': tried login key {lab.key_file}; "
        "its public key belongs into authorized_keys of 'no-such-user' there; passwords (ansible_password) "
        "are never used"
    )
    assert f"key not accepted for '{lab.user}': tried login key {tmp_path}/key;" in reason(
        dialer, other_key, watch
    )
    assert "none exists" not in reason(dialer, replace(nobody, key_file=str(tmp_path / "none")), watch)


def test_a_host_that_takes_no_keys_or_wants_more_than_one_says_so(
    make_lab: MakeLab, dialer: Dialer, watch: Watch
) -> None:
    wants_more = HostOptions(config=("AuthenticationMethods publickey,publickey",))
    takes_none = HostOptions(
        config=("PubkeyAuthentication no", "KbdInteractiveAuthentication yes", "AuthenticationMethods any")
    )
    lab = make_lab(servers=2, agents=0, options={"server-01": wants_more, "server-02": takes_none})

    assert "wants more than a key to log in: publickey" in reason(dialer, endpoint(lab), watch)
    assert "takes no keys to log in" in reason(dialer, endpoint(lab, "server-02"), watch)


def test_a_host_with_nothing_but_old_algorithms_is_not_spoken_to(
    make_lab: MakeLab, dialer: Dialer, watch: Watch
) -> None:
    old = HostOptions(config=("Ciphers aes128-cbc",))
    older = HostOptions(config=("KexAlgorithms diffie-hellman-group14-sha1",))
    lab = make_lab(servers=2, agents=0, options={"server-01": old, "server-02": older})

    for name in ("server-01", "server-02"):
        assert "speaks no SSH that is sound today" in reason(dialer, endpoint(lab, name), watch)


def test_a_closed_port_is_tried_twice_and_then_named(lab: Lab, dialer: Dialer, watch: Watch) -> None:
    lab.stop(HOST)
    where = endpoint(lab)

    said = reason(dialer, where, watch)
    assert said.startswith(f"connection refused on {where.address}:{where.port}; check its port")


def test_a_name_that_does_not_resolve_is_named(lab: Lab, dialer: Dialer, watch: Watch) -> None:
    where = replace(endpoint(lab), address="no-such-host.invalid")

    assert "the name 'no-such-host.invalid' does not resolve" in reason(dialer, where, watch)


def test_a_host_with_few_places_to_log_in_is_reached_in_the_end(
    make_lab: MakeLab, dialer: Dialer, watchdog: Watchdog
) -> None:
    lab = make_lab(servers=1, agents=0, max_startups=3)
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(
                lambda _: ask(dialer, endpoint(lab), watchdog.watch(LONG_S), "echo END").stdout, range(12)
            )
        )

    assert answers == [b"END\n"] * 12


def test_a_frozen_host_holds_nobody_past_the_deadline(lab: Lab, dialer: Dialer, watchdog: Watchdog) -> None:
    lab.freeze(HOST)
    started = monotonic()

    said = reason(dialer, endpoint(lab), watchdog.watch(0.5))
    impatient = Dialer(entropy=entropy, clock=SystemClock(), patience=Patience(log_in_s=0.5))
    said_sooner = reason(impatient, endpoint(lab), watchdog.watch(LONG_S))

    frozen = r"sent no SSH greeting within [01] s, and the time ran out; is sshd what"
    assert re.search(frozen, said)
    assert re.search(frozen, said_sooner)
    assert monotonic() - started < LONG_S / 2


@pytest.mark.parametrize("size", [0, 30_000_000])
def test_a_host_that_freezes_in_the_middle_ends_at_the_deadline(
    lab: Lab, dialer: Dialer, watchdog: Watchdog, size: int
) -> None:
    connection = dialer.connect(endpoint(lab), watchdog.watch(LONG_S))

    def freeze_when_begun(stdout: bytearray) -> bool:
        if stdout:
            lab.freeze(HOST)
        return False

    command = "echo begun; sleep 60" if size == 0 else "kill -STOP $PPID"
    answer = connection.ask(
        command, Secret(b"x" * size), watchdog.watch(2), limit_bytes=1 << 20, complete=freeze_when_begun
    )

    assert answer.broken is not None
    assert re.fullmatch(r"the visit's time ran out .*; the host had said nothing for [0-2] s", answer.broken)
    assert not connection.alive


def test_a_host_that_is_switched_off_in_the_middle_is_noticed_at_once(
    lab: Lab, dialer: Dialer, watch: Watch
) -> None:
    connection = dialer.connect(endpoint(lab), watch)

    def switch_off(stdout: bytearray) -> bool:
        if stdout:
            lab.stop(HOST)
        return False

    answer = connection.ask("echo begun; cat", Secret(b""), watch, limit_bytes=99, complete=switch_off)

    assert answer.broken or answer.exit_status is not None
    assert not watch.expired
    connection.close()


def test_a_connection_that_died_unused_is_told_before_anything_is_said(
    lab: Lab, dialer: Dialer, watch: Watch
) -> None:
    connection = dialer.connect(endpoint(lab), watch)
    lab.stop(HOST)

    with pytest.raises(NotReachedError, match="the connection was lost before the visit began"):
        connection.ask("echo END", Secret(b""), watch, limit_bytes=99, complete=lambda _: False)
    connection.close()


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"", "closed the connection without a greeting; it may have too many logins under way"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "does not greet as an SSH server, but with 'HTTP/1.1 400 Bad Re",
        ),
        (b"SSH-2.0-other\r\n", "closed the connection during the key exchange"),
        (b"SSH-1.5-old\r\n", "speaks no SSH that is sound today"),
        (b"\xff" * 500 + b"\n", "does not greet as an SSH server, but with 'bytes that are no text'"),
        (b"welcome\n" * 200, "does not greet as an SSH server, but with 'welcome'"),
        (
            b"SSH-2.0-x\r\n" + b"\x7f" * 64,
            "broke the rules of SSH during the key exchange, and was hung up on",
        ),
        (b"SSH-2.0-x\r\n" + packet(b""), "a message of the other side is malformed (IndexError"),
        (b"SSH-2.0-x\r\n" + packet(b"\x14" + bytes(16) + NO_TEXT * 10), "malformed (UnicodeDecodeError"),
        (b"SSH-2.0-x\r\n" + packet(b"\x01" + bytes(4) + NO_TEXT), "malformed (UnicodeDecodeError"),
        (b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xf4" * 4, "at most 262144 are allowed"),
        (b"SSH-" + b"x" * 70_000, "does not greet as an SSH server, but with 'a line without an end'"),
    ],
)
def test_what_is_no_ssh_server_is_told_so(
    lab: Lab, watch: Watch, greeting: bytes, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def greet_and_go(client: socket.socket) -> None:
        with suppress(OSError):  # whoever has heard enough hangs up
            client.sendall(greeting)
            client.shutdown(socket.SHUT_WR)

    quick = Dialer(entropy=entropy, clock=SystemClock(), patience=Patience(log_in_s=5))
    with listener(greet_and_go) as where:
        said = reason(quick, replace(endpoint(lab), address=where.address, port=where.port), watch)

    assert words in said
    assert capfd.readouterr().err == ""


def test_ending_the_run_ends_a_connection_that_is_being_made(lab: Lab, dialer: Dialer) -> None:
    said: list[str] = []
    accepted = threading.Event()
    watchdog = Watchdog()
    with listener(lambda _: accepted.set()) as silent:
        where = replace(endpoint(lab), address=silent.address, port=silent.port)
        with watchdog:
            watch = watchdog.watch(3600)
            thread = threading.Thread(target=lambda: said.append(reason(dialer, where, watch)))
            thread.start()
            accepted.wait(LONG_S)
        thread.join(LONG_S)

    assert said


def test_a_connection_that_ends_as_a_key_is_offered_is_told_from_a_key_that_is_not_accepted(
    lab: Lab, dialer: Dialer, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_and_cut(transport: paramiko.Transport, peer: Peer) -> None:
        check_host_key(transport, peer)
        transport.sock.shutdown(socket.SHUT_WR)

    monkeypatch.setattr(connection, "check_host_key", check_and_cut)
    assert reason(dialer, endpoint(lab), watch).endswith("closed the connection during the login")
