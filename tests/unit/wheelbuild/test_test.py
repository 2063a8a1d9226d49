from __future__ import annotations

from support.jobs import make_module, make_record
from wheelbuild.test import find_faults, summarize

RESULT = {"module": "a", "passed": 3, "failed": 0, "first_error": None, "seconds": 1.5}


def test_a_wheel_that_is_what_was_asked_for_has_no_fault() -> None:
    host_only = make_module("tiny_c", machine_code=())
    record = make_record(
        modules=(make_module("tiny_cuda"), host_only), asked=("tiny_c", "tiny_cuda")
    )
    assert list(find_faults(record)) == []


def test_a_missing_module_and_one_too_many_are_both_named() -> None:
    assert list(find_faults(make_record(modules=(make_module("other"),)))) == [
        "lacks the module tiny_c",
        "holds the module other, which was not asked for",
    ]


def test_other_machine_code_is_named_with_what_was_asked() -> None:
    record = make_record(modules=(make_module("tiny_c", machine_code=("8.0", "9.0")),))
    assert list(find_faults(record)) == [
        "tiny_c holds code for 8.0;9.0, asked for was 9.0",
    ]


def test_code_for_fewer_architectures_is_a_fault_too() -> None:
    assert list(find_faults(make_record(architectures="9.0+PTX"))) == [
        "tiny_c holds code for 9.0, asked for was 9.0+PTX",
    ]


def test_no_device_code_at_all_is_a_fault() -> None:
    record = make_record(modules=(make_module("tiny_c", machine_code=()),))
    assert list(find_faults(record)) == ["holds no device code at all, asked for was 9.0"]


def test_evidence_names_gpu_driver_and_counts() -> None:
    result = {**RESULT, "gpu": "NVIDIA H200", "driver": "580.1"}
    assert summarize({"a": result}, torch="2.11.0+cu130", on_gpu=True) == {
        "gpu": "NVIDIA H200",
        "driver": "580.1",
        "torch": "2.11.0+cu130",
        "passed": 3,
        "modules": {"a": {"passed": 3, "failed": 0, "seconds": 1.5}},
    }


def test_without_a_gpu_a_wheel_is_untested_even_if_its_tests_passed() -> None:
    evidence = summarize({"a": RESULT}, torch="2.11.0+cu130", on_gpu=False)
    assert evidence["gpu"] == "untested"
    assert evidence["passed"] == 3


def test_a_skip_is_said() -> None:
    evidence = summarize({"a": {"skipped": "no GPU"}}, torch="x", on_gpu=False)
    assert evidence["modules"] == {"a": {"skipped": "no GPU"}}
