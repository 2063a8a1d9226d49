import io

from apex_installer.make.capture import last_exception
from apex_installer.make.progress import Progress, ProgressPrinter, progress_line


def test_the_line_says_how_much_how_long_and_how_long_yet() -> None:
    line = progress_line(Progress(done=12, total=49, seconds=45.2, left=70.4))
    assert line == "compiling: 12 of 49 steps done, 0:45 passed, about 1:10 left"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_than_on_a_terminal_lines_are_rare() -> None:
    stream = io.StringIO()
    printer = ProgressPrinter(stream)
    for done in range(3):
        printer(Progress(done, 9, 0, 0))
    assert stream.getvalue().count("\n") == 1
    printer(Progress(9, 9, 0, 0))
    assert stream.getvalue().splitlines()[-1].startswith("compiling: 9 of 9")


def test_on_a_terminal_the_line_is_written_over_and_left() -> None:
    stream = Terminal()
    printer = ProgressPrinter(stream)
    printer(Progress(1, 9, 0, 0))
    assert stream.getvalue().startswith("\r\x1b[K")
    assert not stream.getvalue().endswith("\n")
    printer.close()
    printer.close()
    assert stream.getvalue().count("\n") == 1


TRACEBACK = """\
torch.__version__  = 2.11.0+cu130

Traceback (most recent call last):
  File "capture_setup.py", line 150, in main
    run()
  File "setup.py", line 79, in check
    raise RuntimeError(
RuntimeError: Cuda extensions are being compiled with another Cuda
see https://github.com/NVIDIA/apex/pull/323
"""


def test_the_exception_of_setup_py_is_its_first_line() -> None:
    assert last_exception(TRACEBACK) == (
        "RuntimeError: Cuda extensions are being compiled with another Cuda"
    )
    assert last_exception("running build_ext\nerror: no such option\n") == "error: no such option"
    assert last_exception("killed\n") == "killed"
    assert last_exception("") == "ended without a word"
