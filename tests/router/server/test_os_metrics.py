"""Measurements of the operating system, from sample files and from the machine itself."""

import os

import pytest

from leveret.router.server import os_metrics as machine

TOTAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
UNLIMITED = "9223372036854771712\n"  # how version 1 writes it


@pytest.fixture
def root(tmp_path):
    """Make a tree of files; return its root."""

    def write(files: dict[str, str]):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, TOTAL),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, TOTAL),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "4096\n"}, 4096),
        (
            {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "4096", f"{V2}/a/memory.max": "max"},
            4096,
        ),
        (
            {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "max", f"{V2}/a/memory.max": "4096"},
            4096,
        ),
        ({"proc/self/cgroup": "0::/../else\n", f"{V2}/memory.max": "4096\n"}, 4096),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n1:cpu:/\n0::/\n",
                f"{V1}/a/memory.limit_in_bytes": "4096\n",
                f"{V1}/memory.limit_in_bytes": UNLIMITED,
            },
            4096,
        ),
        (
            {
                "proc/self/cgroup": "9:cpuset,memory:/docker/1\n",
                f"{V1}/memory.limit_in_bytes": "8192\n",
            },
            8192,
        ),
        ({"proc/self/cgroup": "4:memory:/\n", f"{V1}/memory.limit_in_bytes": UNLIMITED}, TOTAL),
    ],
    ids=["none", "v2 max", "v2", "v2 own", "v2 above", "v2 elsewhere", "v1", "v1 container", "v1 unlimited"],
)
def test_the_limit_is_the_least_of_machine_and_control_groups(root, files, expected):
    assert machine.memory_limit(root(files)) == expected


def test_resident_memory_grows_with_what_is_used():
    before = machine.resident_memory()
    block = b"x" * (64 << 20)
    assert 60 << 20 < machine.resident_memory() - before < 80 << 20
    del block


def test_resident_memory_is_unknown_without_proc_and_ps(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "STATM", tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.resident_memory() == 0


@pytest.mark.needs("ps")
def test_resident_memory_is_asked_of_ps_where_there_is_no_proc(monkeypatch, tmp_path):
    from_proc = machine.resident_memory()
    monkeypatch.setattr(machine, "STATM", tmp_path / "nothing")
    assert abs(machine.resident_memory() - from_proc) < 16 << 20


def test_freed_memory_is_given_back():
    before = machine.resident_memory()
    blocks = [bytes([1]) * 20_000 for _ in range(5000)]
    last = bytes([2]) * 20_000  # keeps what is below it from being given back by itself
    full = machine.resident_memory()
    del blocks
    machine.collect_garbage()
    machine.give_memory_back()
    assert machine.resident_memory() - before < (full - before) / 4
    del last


def test_free_space_is_that_of_the_directory(tmp_path):
    assert machine.free_space(str(tmp_path)) > 0
    assert machine.free_space(str(tmp_path / "nothing")) == 0
