import pytest

from orchestrator.errors import InputError, Place
from orchestrator.inventory.ranges import MAX_HOSTS, unfold

HERE = Place(file="hosts.yml", line=3, column=5)


@pytest.mark.parametrize(
    ("pattern", "names", "port"),
    [
        ("web", ["web"], None),
        ("web:22", ["web"], 22),
        ("web[1:3]", ["web1", "web2", "web3"], None),
        ("web[08:11]x:2222", ["web08x", "web09x", "web10x", "web11x"], 2222),
        ("[a:e:2]", ["a", "c", "e"], None),
        ("[y:B]", ["y", "z", "A", "B"], None),
        ("[:1]", ["0", "1"], None),
        ("[0:10:5]", ["0", "5", "10"], None),
        ("r[1:2]-[a:b]", ["r1-a", "r1-b", "r2-a", "r2-b"], None),
        ("r[1:5:3].x:65535", ["r1.x", "r4.x"], 65535),
        ("[A:C]:1", ["A", "B", "C"], 1),
        ("web[:1]:22", ["web0:22", "web1:22"], None),
        ("web-:22", ["web-:22"], None),
        ("2001:db8::1", ["2001:db8::1"], None),
    ],
)
def test_a_pattern_stands_for_its_names_in_order(pattern: str, names: list[str], port: int | None) -> None:
    found, found_port = unfold(pattern, place=HERE)
    assert (list(found), found_port) == (names, port)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "web[3:1]",
            "web[b:a]",
            "web[1]",
            "web[1:2:0]",
            "web[1:2:-1]",
            "web[1:2:3:4]",
            "web[1:]",
            "web[:]",
            "web[]",
        ),
        *(
            "web[01:100]",
            "web[aa:cc]",
            "web[a:3]",
            "web[-1:3]",
            "web[1:2",
            "web1:2]",
            "web[[1:2]]",
            "web[ 1:2]",
        ),
        *("web[1_0:20]", "web[0x1:0x2]", "web[é:ê]", "web[\u0661:\u0663]"),
    ],
)
def test_a_malformed_or_empty_range_is_refused_with_its_place(pattern: str) -> None:
    with pytest.raises(InputError, match=r"^hosts\.yml:3:5: the host pattern .*; allowed: \[first:last\]"):
        unfold(pattern, place=HERE)


@pytest.mark.parametrize("pattern", ["web:0", "web:65536", "web:99999999999999999999", "web[1:2]:00"])
def test_a_port_that_no_sshd_can_have_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="has a port that is not between 1 and 65535"):
        unfold(pattern, place=HERE)


@pytest.mark.parametrize("pattern", ["h[1:999999999999]", "h[1:2000000]", "h[1:2000]x[1:2000]", "h[a:z]" * 5])
def test_more_hosts_than_an_inventory_may_have_are_refused_before_they_are_made(pattern: str) -> None:
    with pytest.raises(InputError, match=f"stands for [0-9]+ hosts; allowed: {MAX_HOSTS}"):
        unfold(pattern, place=HERE)
