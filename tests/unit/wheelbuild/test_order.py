"""What is built first, and in which groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apex_installer.model.cell import Cell
from support.jobs import make_job
from wheelbuild.order import MOST_GROUPS, group_jobs, order_jobs

NUMBERS = st.integers(0, 30)
CELLS = st.builds(
    lambda python, torch, cuda: Cell(
        python=f"cp3{python}", torch=(2, torch), cuda=(10 + cuda // 10, cuda % 10)
    ),
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
JOBS = st.lists(CELLS, max_size=600).map(lambda cells: [make_job(cell=cell) for cell in cells])


def labels(*cells: str) -> list[str]:
    return [f"{cell}-linux_x86_64" for cell in cells]


def test_what_is_missed_most_then_the_newest_torch_then_as_it_was() -> None:
    cells = labels("cp310-torch2.4-cu121", "cp312-torch2.11-cu130", "cp311-torch2.11-cu130")
    cells += labels("cp310-torch2.9-cu128", "cp310-torch2.6-cu124")
    misses = {cells[0]: 1, cells[4]: 5}
    found = order_jobs([make_job(cell=Cell.parse(cell)) for cell in cells], misses)
    expected = [cells[4], cells[0], cells[1], cells[2], cells[3]]
    assert [job.cell.label for job in found] == expected


def test_the_pythons_of_one_torch_and_cuda_are_one_group() -> None:
    cells = labels("cp310-torch2.9-cu128", "cp310-torch2.9-cu130", "cp311-torch2.9-cu128")
    groups = group_jobs([make_job(cell=Cell.parse(cell)) for cell in cells])
    assert [group.name for group in groups] == ["torch2.9-cu128", "torch2.9-cu130"]
    assert [job.cell.label for job in groups[0].jobs] == [cells[0], cells[2]]


def test_no_job_is_no_group() -> None:
    assert group_jobs([]) == ()


@given(JOBS, st.sampled_from([1, 2, 7, MOST_GROUPS]))
def test_every_job_is_in_one_group_and_there_are_not_too_many(jobs: list, most: int) -> None:
    groups = group_jobs(jobs, most=most)
    assert len(groups) <= most
    assert all(group.jobs for group in groups)
    assert sorted(map(id, jobs)) == sorted(id(job) for group in groups for job in group.jobs)
    homes = [
        (job.cell.torch, job.cell.cuda, at) for at, group in enumerate(groups) for job in group.jobs
    ]
    assert len({home[:2] for home in homes}) == len(set(homes))
    assert len({group.name for group in groups}) == len(groups)


@given(JOBS)
def test_groups_keep_the_order_of_their_first_jobs(jobs: list) -> None:
    firsts = [jobs.index(group.jobs[0]) for group in group_jobs(jobs)]
    assert firsts == sorted(firsts)


@given(JOBS, st.dictionaries(CELLS.map(lambda cell: cell.label), st.integers(0, 9)))
def test_order_is_by_misses_and_torch_and_keeps_all(jobs: list, misses: dict[str, int]) -> None:
    found = order_jobs(jobs, misses)
    assert sorted(map(id, jobs)) == sorted(map(id, found))
    ranks = [(misses.get(job.cell.label, 0), job.cell.torch) for job in found]
    assert ranks == sorted(ranks, reverse=True)
