"""How much memory there is: control groups of both versions, the machine, the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallmind_engine.memory import LimitSource, available_bytes, effective_limit, system_limit
from smallmind_engine.memory.cgroups import group_limits

MIB = 1 << 20
V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
CPU_MOUNT = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
NO_LIMIT_V1 = 0x7FFFFFFFFFFFF000


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n" if not str(content).endswith("\n") else str(content))
    return root


def host(total_mib: int, available_mib: int) -> dict[str, object]:
    return {
        "proc/meminfo": f"MemTotal: {total_mib << 10} kB\nMemFree: 12 kB\n"
        f"MemAvailable: {available_mib << 10} kB\n"
    }


def v2(path: str = "/", **files: object) -> dict[str, object]:
    folder = f"sys/fs/cgroup{path}".rstrip("/")
    return {
        "proc/self/cgroup": f"0::{path}",
        "proc/self/mountinfo": V2_MOUNT,
        **{f"{folder}/memory.{name}": value for name, value in files.items()},
    }


def test_a_container_of_version_2_is_seen_at_the_root_of_its_namespace(tmp_path: Path) -> None:
    write(tmp_path, {**host(16000, 9000), **v2(max=512 * MIB, current=100 * MIB)})
    limit = system_limit(tmp_path)
    assert limit is not None
    assert (limit.source, limit.total_bytes) == (LimitSource.CGROUP_V2, 512 * MIB)
    assert limit.free_bytes == 412 * MIB
    assert limit.budget_bytes == int(412 * MIB * 0.9)
    assert limit.place == str(tmp_path / "sys/fs/cgroup")


def test_what_the_kernel_would_give_up_counts_as_free(tmp_path: Path) -> None:
    stat = f"anon 1\nfile {90 * MIB}\ninactive_file {60 * MIB}\nactive_file {30 * MIB}\n"
    write(tmp_path, v2(max=512 * MIB, current=100 * MIB, stat=stat))
    (limit,) = group_limits(tmp_path)
    assert (limit.version, limit.used_bytes) == (2, 40 * MIB)


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    write(tmp_path, v2("/pod/app", max="max", current=10 * MIB))
    write(tmp_path, {"sys/fs/cgroup/pod/memory.max": 300 * MIB})
    write(tmp_path, {"sys/fs/cgroup/pod/memory.current": 250 * MIB})
    (limit,) = group_limits(tmp_path)
    assert (limit.limit_bytes, limit.used_bytes) == (300 * MIB, 250 * MIB)
    assert available_bytes(tmp_path) == 50 * MIB


def test_a_throttling_limit_below_the_hard_one_counts(tmp_path: Path) -> None:
    write(tmp_path, v2(max=512 * MIB, high=400 * MIB, current=0))
    (limit,) = group_limits(tmp_path)
    assert limit.limit_bytes == 400 * MIB


@pytest.mark.parametrize("content", ["max", "", "-1", "lots"])
def test_no_number_is_no_limit(tmp_path: Path, content: str) -> None:
    write(tmp_path, v2(max=content, current=5))
    assert group_limits(tmp_path) == ()


def v1(path: str, mount: str = V1_MOUNT) -> dict[str, object]:
    return {
        "proc/self/cgroup": f"9:name=systemd:/\n4:memory:{path}\n1:cpu,cpuacct:/\n0::/\n",
        "proc/self/mountinfo": CPU_MOUNT + mount,
    }


def test_a_group_of_version_1_is_found_below_its_mount_point(tmp_path: Path) -> None:
    stat = f"cache 7\ntotal_inactive_file {20 * MIB}\n"
    write(tmp_path, {**host(16000, 9000), **v1("/docker/abc")})
    write(
        tmp_path / "sys/fs/cgroup/memory/docker/abc",
        {
            "memory.limit_in_bytes": 256 * MIB,
            "memory.usage_in_bytes": 120 * MIB,
            "memory.stat": stat,
        },
    )
    write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1})
    limit = system_limit(tmp_path)
    assert limit is not None
    assert (limit.source, limit.total_bytes) == (LimitSource.CGROUP_V1, 256 * MIB)
    assert limit.used_bytes == 100 * MIB


def test_a_container_that_cannot_see_its_own_path_is_what_is_mounted_for_it(
    tmp_path: Path,
) -> None:
    mount = V1_MOUNT.replace(" / /sys", " /docker/abc /sys")
    for told in ("/docker/abc", "/elsewhere/xyz"):
        write(tmp_path, v1(told, mount))
        write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": 64 * MIB})
        (limit,) = group_limits(tmp_path)
        assert (limit.version, limit.limit_bytes) == (1, 64 * MIB)


def test_both_versions_at_once_are_both_read(tmp_path: Path) -> None:
    write(tmp_path, v1("/a", V1_MOUNT + V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/un")))
    write(tmp_path, {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": 64 * MIB})
    write(tmp_path, {"sys/fs/cgroup/un/memory.max": 32 * MIB})
    assert {limit.version for limit in group_limits(tmp_path)} == {1, 2}


def test_the_number_for_no_limit_of_version_1_is_none(tmp_path: Path) -> None:
    write(tmp_path, {**host(1000, 600), **v1("/")})
    write(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1})
    limit = system_limit(tmp_path)
    assert limit is not None
    assert (limit.source, limit.free_bytes) == (LimitSource.HOST, 600 * MIB)


def test_a_machine_with_less_than_its_container_may_take_counts(tmp_path: Path) -> None:
    write(tmp_path, {**host(1000, 50), **v2(max=512 * MIB, current=0)})
    limit = system_limit(tmp_path)
    assert limit is not None
    assert (limit.source, limit.free_bytes) == (LimitSource.HOST, 50 * MIB)


def test_blanks_in_a_mount_point_are_understood(tmp_path: Path) -> None:
    mount = V2_MOUNT.replace("/sys/fs/cgroup", r"/my\040groups")
    write(tmp_path, {"proc/self/cgroup": "0::/", "proc/self/mountinfo": mount})
    write(tmp_path, {"my groups/memory.max": 9 * MIB})
    (limit,) = group_limits(tmp_path)
    assert limit.limit_bytes == 9 * MIB


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("proc/self/cgroup", "no colons here"),
        ("proc/self/cgroup", "0::/../../outside"),
        ("proc/self/mountinfo", "30 23 - cgroup2"),
        ("proc/self/mountinfo", V2_MOUNT + "\n\n - \n"),
        ("proc/meminfo", "MemTotal: lots"),
    ],
)
def test_odd_files_are_no_error(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, {**host(100, 50), **v2(max=10 * MIB, current=0), name: content})
    limit = system_limit(tmp_path)
    assert limit is None or limit.total_bytes > 0


def test_without_any_file_nothing_is_known(tmp_path: Path) -> None:
    assert system_limit(tmp_path) is None
    assert available_bytes(tmp_path) is None
    assert effective_limit(None, tmp_path) is None


def test_the_users_own_limit_comes_first_and_whole(tmp_path: Path) -> None:
    write(tmp_path, v2(max=10 * MIB, current=0))
    limit = effective_limit(99 * MIB, tmp_path)
    assert limit is not None
    assert (limit.source, limit.budget_bytes) == (LimitSource.OPTION, 99 * MIB)


def test_this_machine_is_understood() -> None:
    limit = system_limit()
    assert limit is None or 0 < limit.free_bytes <= limit.total_bytes
