from pathlib import Path

import pytest

from apex_installer.make.width import Limits, choose_width, read_limits

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("limits", "jobs", "why"),
    [
        (Limits(cpus=16), 16, "16 CPUs"),
        (Limits(cpus=128, quota=7.5), 8, "the cgroup grants 7.5 CPUs"),
        (Limits(cpus=16, quota=0.5), 1, "the cgroup grants 0.5 CPUs"),
        (Limits(cpus=16, memory=8 * GB), 5, "8.0 GB of memory"),
        (Limits(cpus=16, memory=GB), 1, "--jobs N where memory grows on demand"),
        (Limits(cpus=2, quota=8, memory=64 * GB), 2, "2 CPUs"),
    ],
    ids=["CPUs", "quota", "less than one", "memory", "little memory", "all three"],
)
def test_the_scarcest_decides(limits: Limits, jobs: int, why: str) -> None:
    width = choose_width(limits)
    assert width.jobs == jobs
    assert why in width.why


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(root)


MEMINFO = "MemTotal: 64000000 kB\nMemFree: 1000 kB\nMemAvailable: 50000000 kB\n"


def test_cgroup_v2_as_a_container_sees_it(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/meminfo": MEMINFO,
            "sys/fs/cgroup/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/memory.max": "8000000000\n",
            "sys/fs/cgroup/memory.current": "5000000000\n",
            "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 2000000000\nactive_file 1000000000",
        },
    )
    limits = read_limits(root=root)
    assert limits.quota == 4.0
    # 8 GB less 5 GB in use, of which 3 GB are page cache that can be given back.
    assert limits.memory == 6_000_000_000


def test_a_limit_of_a_parent_group_counts(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pods/one\n",
            "proc/meminfo": MEMINFO,
            "sys/fs/cgroup/pods/one/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pods/one/memory.max": "max\n",
            "sys/fs/cgroup/pods/cpu.max": "150000 100000\n",
        },
    )
    limits = read_limits(root=root)
    assert (limits.quota, limits.memory) == (1.5, 51_200_000_000)


def test_cgroup_v1(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/\n",
            "proc/meminfo": MEMINFO,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
        },
    )
    limits = read_limits(root=root)
    assert (limits.quota, limits.memory) == (2.0, 51_200_000_000)


def test_no_limit_in_cgroup_v1_is_a_negative_quota(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert read_limits(root=root).quota is None


def test_a_kernel_without_these_files_sets_no_limit(tmp_path: Path) -> None:
    limits = read_limits(root=str(tmp_path))
    assert (limits.quota, limits.memory) == (None, None)
    assert limits.cpus >= 1
