import base64
import hmac
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.remote.known_hosts import HostRecord, KnownHosts, Standing, fingerprint


def blob(content: bytes, kind: str = "ssh-ed25519") -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in (kind.encode(), content))


def line(names: str, content: bytes, kind: str = "ssh-ed25519", mark: str = "") -> str:
    encoded = base64.b64encode(blob(content, kind)).decode()
    return f"{mark} {names} {kind} {encoded} a comment".lstrip() + "\n"


ONE = b"1" * 32
TWO = b"2" * 32


def test_a_key_is_known_only_for_the_host_its_line_names() -> None:
    hosts = KnownHosts.parse(line("web.example", ONE) + line("db.example", TWO))

    assert hosts.about("web.example").standing(blob(ONE)) is Standing.KNOWN
    assert hosts.about("web.example").standing(blob(TWO)) is Standing.CHANGED
    assert hosts.about("other.example").standing(blob(ONE)) is Standing.UNKNOWN


def test_names_are_compared_without_regard_to_case() -> None:
    assert KnownHosts.parse(line("Web.Example", ONE)).about("wEB.example").kinds == ("ssh-ed25519",)


def test_another_port_than_22_is_another_host() -> None:
    hosts = KnownHosts.parse(line("[127.0.0.1]:2222,plain", ONE))

    assert hosts.about("127.0.0.1", 2222).standing(blob(ONE)) is Standing.KNOWN
    assert hosts.about("127.0.0.1", 2222).name == "[127.0.0.1]:2222"
    assert hosts.about("127.0.0.1").standing(blob(ONE)) is Standing.UNKNOWN
    assert hosts.about("plain").standing(blob(ONE)) is Standing.KNOWN


def test_a_line_without_a_port_lets_a_key_be_believed_where_none_with_the_port_does() -> None:
    hosts = KnownHosts.parse(line("host", ONE) + line("both", ONE) + line("[both]:2222", TWO))

    assert hosts.about("host", 2222).standing(blob(ONE)) is Standing.KNOWN
    assert hosts.about("host", 2222).kinds == ("ssh-ed25519",)
    assert hosts.about("host", 2222).standing(blob(TWO)) is Standing.UNKNOWN
    assert hosts.about("both", 2222).standing(blob(TWO)) is Standing.KNOWN
    assert hosts.about("both", 2222).standing(blob(ONE)) is Standing.CHANGED


def test_what_revokes_and_who_certifies_counts_without_the_port_too() -> None:
    record = KnownHosts.parse(
        line("host", ONE, mark="@revoked") + line("host,*", TWO, mark="@cert-authority")
    ).about("host", 2222)

    assert record.standing(blob(ONE)) is Standing.REVOKED
    assert [key.blob for key in record.authorities] == [blob(TWO)]


def test_a_key_of_another_type_than_the_known_ones_is_not_called_changed() -> None:
    record = KnownHosts.parse(line("web", ONE, "ssh-rsa")).about("web")

    assert record.standing(blob(ONE)) is Standing.OTHER_TYPE
    assert record.standing(blob(TWO, "ssh-rsa")) is Standing.CHANGED


def known(text: str) -> HostRecord:
    return KnownHosts.parse(text).about("web")


@pytest.mark.parametrize(
    "more", [line("web", TWO), line("web", TWO, "ssh-rsa"), line("*", TWO, mark="@cert-authority")]
)
def test_what_was_believed_on_first_use_does_not_count_where_other_files_know_the_host(more: str) -> None:
    record = known(more).over_first_use(known(line("web", ONE)))

    assert record.standing(blob(ONE)) is not Standing.KNOWN
    assert [key.blob for key in record.passed_over] == [blob(ONE)]


def test_what_was_believed_on_first_use_counts_where_nothing_else_is_known_unless_it_is_revoked() -> None:
    first = known(line("web", ONE))

    assert known("").over_first_use(first).standing(blob(ONE)) is Standing.KNOWN
    assert known("").over_first_use(first).standing(blob(TWO)) is Standing.CHANGED
    revoking = known(line("*", ONE, mark="@revoked"))
    assert revoking.over_first_use(first).standing(blob(ONE)) is Standing.REVOKED
    assert known(line("web", ONE)).over_first_use(first).standing(blob(ONE)) is Standing.KNOWN


def test_wildcards_match_and_an_exclamation_mark_takes_a_host_out_again() -> None:
    hosts = KnownHosts.parse(line("*.example,!db?.example,[*.example]:22022", ONE))

    assert hosts.about("web.example").keys
    assert hosts.about("web.example", 22022).keys
    assert not hosts.about("db1.example").keys
    assert hosts.about("db12.example").keys
    assert not hosts.about("example").keys


def test_a_hashed_name_is_found() -> None:
    salt = b"s" * 20

    def hashed(name: str) -> str:
        digest = hmac.digest(salt, name.encode(), "sha1")
        return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"

    hosts = KnownHosts.parse(line(hashed("web.example"), ONE) + line(hashed("[10.0.0.1]:2222"), TWO))

    assert hosts.about("WEB.example").standing(blob(ONE)) is Standing.KNOWN
    assert hosts.about("10.0.0.1", 2222).standing(blob(TWO)) is Standing.KNOWN
    assert hosts.about("10.0.0.1").standing(blob(TWO)) is Standing.UNKNOWN


def test_what_ssh_keygen_hashed_and_finds_is_found_here_too(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    kind, encoded = (tmp_path / "key.pub").read_text().split()[:2]
    file = tmp_path / "known_hosts"
    file.write_text(f"web.example {kind} {encoded}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", key], check=True, capture_output=True, text=True).stdout

    record = KnownHosts.read([file]).about("web.example")

    assert "web.example" not in file.read_text()
    assert record.keys[0].fingerprint in shown


def test_a_revoked_key_is_refused_whatever_other_lines_say() -> None:
    hosts = KnownHosts.parse(line("web", ONE) + line("*", ONE, mark="@revoked"))

    assert hosts.about("web").standing(blob(ONE)) is Standing.REVOKED
    assert hosts.about("elsewhere").standing(blob(ONE)) is Standing.REVOKED


def test_a_certificate_authority_is_set_apart_and_makes_no_key_known() -> None:
    record = KnownHosts.parse(line("*", ONE, mark="@cert-authority")).about("web")

    assert record.standing(blob(ONE)) is Standing.UNKNOWN
    assert [key.blob for key in record.authorities] == [blob(ONE)]


def test_the_kinds_of_a_host_are_each_named_once_in_the_files_order() -> None:
    text = line("web", ONE, "ssh-rsa") + line("web", ONE) + line("web", TWO)

    assert KnownHosts.parse(text).about("web").kinds == ("ssh-rsa", "ssh-ed25519")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("web ssh-ed25519", "expected host names, a key type and a key"),
        ("web ssh-ed25519 AAAA*", "not valid base64"),
        ("web ssh-rsa " + base64.b64encode(blob(ONE)).decode(), "not of the type 'ssh-rsa'"),
        ("web 1024 65537 12345678901234567890", "not valid base64"),
        ("w\N{LATIN SMALL LETTER E WITH ACUTE}b", "expected host names"),
        (line("|1|c2FsdA==|aGFzaA==", ONE), "hashed host name is damaged"),
        (line("|2|c2FsdA==|aGFzaA==", ONE), "hashed host name is damaged"),
        (line("|1|c2FsdA==", ONE), "hashed host name is damaged"),
    ],
)
def test_a_line_that_cannot_be_read_is_passed_over_and_named(row: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(f"# a comment\n\n{row}\n{line('web', ONE)}".encode("latin-1"))

    hosts = KnownHosts.read([file])

    assert hosts.about("web").standing(blob(ONE)) is Standing.KNOWN
    (skipped,) = hosts.skipped
    assert message in skipped.message
    assert skipped.message.startswith(f"{file}:3: ")
    with pytest.raises(InputError, match=message):
        KnownHosts.read([file], strict=True)


@pytest.mark.parametrize("mark", ["@revoked", "@cert-authority"])
@pytest.mark.parametrize("row", ["web ssh-ed25519", "web ssh-ed25519 AAAA*", "", "|1|c2FsdA==|aGFzaA== a b"])
def test_a_line_with_a_mark_is_never_passed_over(mark: str, row: str) -> None:
    with pytest.raises(InputError, match=r"known_hosts:2: "):
        KnownHosts.parse(f"{line('web', ONE)}{mark} {row}")


def test_a_mark_may_be_followed_by_any_blank_and_an_unknown_one_is_refused() -> None:
    revoked = line("web", ONE, mark="@revoked").replace(" ", "\t")

    assert KnownHosts.parse(revoked).about("web").standing(blob(ONE)) is Standing.REVOKED
    with pytest.raises(InputError, match="unknown marker '@trusted'"):
        KnownHosts.parse(line("web", ONE, mark="@trusted"))


def test_a_missing_file_is_told_from_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KnownHosts.read([tmp_path / "none"])
    with pytest.raises(IsADirectoryError):
        KnownHosts.read([tmp_path])


def test_a_file_with_windows_line_ends_and_odd_bytes_in_comments_is_read(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(line("web", ONE).rstrip("\n").encode() + b" caf\xe9\r\n\r\n# \xff\r\n")

    assert KnownHosts.read([file]).about("web").standing(blob(ONE)) is Standing.KNOWN


@given(text=st.text(st.sampled_from("aA*?![]|1, \t\n@#=:"), max_size=60), host=st.text(max_size=12))
def test_any_text_is_read_or_refused_and_any_host_is_looked_up(text: str, host: str) -> None:
    try:
        hosts = KnownHosts.parse(text)
    except InputError:
        return
    assert hosts.about(host).standing(b"") is Standing.UNKNOWN


def test_a_fingerprint_is_written_as_openssh_writes_it() -> None:
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
