import json

import pytest

from apex_installer.errors import UsageError
from apex_installer.make.request import BuildRequest

REQUEST = BuildRequest(
    source="/src/apex",
    interpreter="/venv/bin/python",
    distribution="apex",
    package="apex",
    version="0.1+20260708.cu130.torch2.11",
    cell="cp311-torch2.11-cu130-linux_x86_64",
    torch="2.11.0+cu130",
    modules=("amp_C", "fused_layer_norm_cuda"),
    architectures="8.0;9.0+PTX",
    work="/work",
    argv=("--cpp_ext", "--cuda_ext"),
    environment={"APEX_CPP_EXT": "1"},
    requires=("torch==2.11.*", "packaging>20.6"),
    record={"ref": "6424da3b"},
    cpu_seconds={"amp_C": 300.0},
    toolkit="/usr/local/cuda",
    jobs=3,
    time_limit=600.0,
    build_tag=2,
)


def test_json_reads_back_to_an_equal_request() -> None:
    assert BuildRequest.from_json(REQUEST.to_json()) == REQUEST


def test_relative_paths_are_taken_from_the_job_folder() -> None:
    data = {**json.loads(REQUEST.to_json()), "source": "src", "work": "work"}
    request = BuildRequest.from_json(json.dumps(data), folder="/jobs/one")
    assert (request.source, request.work) == ("/jobs/one/src", "/jobs/one/work")
    assert request.toolkit == "/usr/local/cuda"


def test_every_fault_is_named_at_once() -> None:
    data = json.loads(REQUEST.to_json())
    del data["torch"], data["modules"]
    data["colour"] = "red"
    with pytest.raises(UsageError) as refused:
        BuildRequest.from_json(json.dumps(data), folder="/jobs/one")
    assert str(refused.value) == (
        "/jobs/one/job.json: unknown key 'colour'; no 'torch'; no 'modules'"
    )


def test_another_schema_is_one_line() -> None:
    text = json.dumps({**json.loads(REQUEST.to_json()), "schema": 2})
    with pytest.raises(UsageError, match="schema 2, but this program reads 1"):
        BuildRequest.from_json(text)


def test_architectures_are_read_from_their_text() -> None:
    assert REQUEST.arch is not None
    assert REQUEST.arch.ptx == ("9.0",)
