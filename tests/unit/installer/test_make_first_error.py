"""The words below were said by gcc 12.2, nvcc 13.0 and GNU ld 2.40."""

import pytest

from apex_installer.make.first_error import find_first_error, was_killed_for_memory

GCC = """\
a.cpp: In function 'int main()':
a.cpp:3:34: error: 'unknown_name' was not declared in this scope
    3 | int main() { std::vector<int> v; unknown_name(v); return twice(3); }
      |                                  ^~~~~~~~~~~~
a.cpp: In instantiation of 'T twice(T) [with T = int]':
a.cpp:3:63:   required from here
a.cpp:2:47: error: request for member 'nothing' in 'x', which is of non-class type 'int'
"""
NO_HEADER = """\
In file included from b.cpp:1:
/torch/include/ATen/cuda/CUDAContextLight.h:10:10: fatal error: cusparse.h: No such file
   10 | #include <cusparse.h>
      |          ^~~~~~~~~~~~
compilation terminated.
"""
CUDAFE = """\
k.cu(2): warning #177-D: variable "unused" was declared but never referenced

k.cu(1): error: identifier "undeclared" is undefined
  __attribute__((global)) void f(int *p) { p[0] = undeclared; }
                                                  ^

1 error detected in the compilation of "k.cu".
"""
PTXAS = """\
ptxas /t/x.ptx, line 27; error   : Unknown modifier '.is'
ptxas /t/x.ptx, line 27; error   : Not a name of any known instruction: 'this'
ptxas fatal   : Ptx assembly aborted due to errors
"""
PTXAS_SHARED = (
    "ptxas error   : Entry function '_Z1fPi' uses too much shared data (0x61a80 bytes, "
    "0xc000 max)\n"
)
LD_UNDEFINED = """\
/usr/bin/ld: /tmp/cc7UgsVv.o: in function `main':
u.cpp:(.text+0x5): undefined reference to `g()'
collect2: error: ld returned 1 exit status
"""
LD_NO_LIBRARY = """\
/usr/bin/ld: cannot find -lno_such_library: No such file or directory
collect2: error: ld returned 1 exit status
"""
NO_ARCH = "nvcc fatal   : Unsupported gpu architecture 'compute_12'\n"
KILLED = """\
g++: fatal error: Killed signal terminated program cc1plus
compilation terminated.
"""
NVCC_KILLED = "nvcc error   : 'cicc' died due to signal 9 (Kill signal)\n"
FULL = """\
/t/ccX.s: Assembler messages:
/t/ccX.s: Fatal error: can't write 12 bytes to section .text of a.o: 'No space left on device'
"""


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (GCC, "a.cpp:3: 'unknown_name' was not declared in this scope"),
        (
            NO_HEADER,
            "/torch/include/ATen/cuda/CUDAContextLight.h:10: cusparse.h: No such file",
        ),
        (CUDAFE, 'k.cu:1: identifier "undeclared" is undefined'),
        (PTXAS, "/t/x.ptx:27: Unknown modifier '.is'"),
        (PTXAS_SHARED, PTXAS_SHARED.strip()),
        (LD_UNDEFINED, "u.cpp: undefined reference to `g()'"),
        (LD_NO_LIBRARY, LD_NO_LIBRARY.splitlines()[0]),
        (NO_ARCH, "Unsupported gpu architecture 'compute_12'"),
        (KILLED, "g++: fatal error: Killed signal terminated program cc1plus"),
        (FULL, FULL.splitlines()[1]),
        ("something odd\n", "something odd"),
        ("", "ended with status 1 and no word"),
    ],
    ids=[
        *("gcc", "no header", "cudafe++", "ptxas", "ptxas without place", "ld undefined"),
        *("ld no library", "nvcc fatal", "killed", "disk full", "unknown words", "silent"),
    ],
)
def test_the_first_error_is_found(words: str, text: str) -> None:
    assert find_first_error(words, status=1).text == text


def test_a_warning_is_not_an_error() -> None:
    words = 'a.cpp:1:2: warning: comparison [-Wsign-compare]\nnvcc warning : some "error: x"\n'
    assert find_first_error(words, status=1).text == 'nvcc warning : some "error: x"'


def test_a_signal_without_words_is_named() -> None:
    assert find_first_error("", status=-11).text == "ended by signal 11 (SIGSEGV)"


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [(KILLED, 1, True), ("", -9, True), (GCC, 1, False), (NVCC_KILLED, 9, True)],
    ids=["gcc's child", "itself", "an error of the source", "nvcc's child"],
)
def test_memory_is_suspected_when_the_kernel_ended_it(
    words: str, status: int, *, expected: bool
) -> None:
    assert was_killed_for_memory(words, status) is expected
