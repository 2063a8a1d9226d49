"""Run a ref's own setup.py and write down what it would have compiled and linked.

A stand-alone script for the target's interpreter: `python capture_setup.py SPEC`, where SPEC is a
JSON file (see `capture.run_capture`). It imports nothing of ours. torch and setuptools decide
every flag; the two places where a tool would be started (ninja by torch's BuildExtension, all else
by distutils' `CCompiler.spawn` or `call`) keep the command. Nothing is written into the source.
"""

# torch, setuptools, distutils are the target's: unknown here, and patched where they are private.
# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, PLC0415, SLF001
# mypy: ignore-errors

import contextlib
import json
import os
import runpy
import sys
import sysconfig


def _subclasses(kind):
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def _keep_spawned(kept):
    """Replace `spawn` of every compiler class, wherever this setuptools keeps them.

    setuptools 84 starts its tools by `call`, and left `spawn` for others to use.
    """
    from distutils import ccompiler, unixccompiler  # noqa: F401  (the second defines a subclass)

    def spawn(_self, cmd, **_options):
        kept.append([str(part) for part in cmd])

    base = ccompiler.CCompiler
    for kind in [base, *_subclasses(base)]:
        kind.spawn = kind.call = spawn


def _keep_ninja(kept):
    """Keep the text of build.ninja where BuildExtension would run it.

    A probe that a setup.py compiles and loads at once (`torch.utils.cpp_extension.load`) is not
    an extension: it runs as ever, and then needs a ninja.
    """
    from torch.utils import cpp_extension

    run = cpp_extension._run_ninja_build
    write = cpp_extension._write_ninja_file_and_compile_objects
    inside = []

    def run_or_keep(build_directory, *args, **options):
        if not inside:
            return run(build_directory, *args, **options)
        with open(os.path.join(build_directory, "build.ninja"), encoding="utf-8") as file:
            kept.append(file.read())
        return None

    def write_and_keep(*args, **options):
        inside.append(True)
        try:
            return write(*args, **options)
        finally:
            inside.pop()

    cpp_extension._run_ninja_build = run_or_keep
    cpp_extension._write_ninja_file_and_compile_objects = write_and_keep
    cpp_extension.is_ninja_available = lambda: True
    cpp_extension.verify_ninja_availability = lambda: None


def _keep_distribution(kept):
    """Keep the Distribution, whose fields are setup()'s arguments."""
    from setuptools.dist import Distribution

    run_commands = Distribution.run_commands

    def run_and_keep(self):
        kept.append(self)
        # An egg-info would else be made in the source (package data asks for its file list).
        self.get_option_dict("egg_info")["egg_base"] = ("capture", os.environ["CAPTURE_EGG_BASE"])
        run_commands(self)

    Distribution.run_commands = run_and_keep


def _arguments(distribution):
    """What `pack` needs of setup()'s arguments."""
    data = distribution.metadata
    return {
        "name": data.name,
        "version": str(data.version),
        "description": data.description,
        "long_description": getattr(data, "long_description", None),
        "license": getattr(data, "license", None),
        "python_requires": str(getattr(distribution, "python_requires", "") or ""),
        "install_requires": [str(one) for one in distribution.install_requires or []],
        "packages": list(distribution.packages or []),
        "entry_points": distribution.entry_points or {},
    }


def _python_includes():
    """The folders that distutils' build_ext adds for Python.h, by every name they may go by.

    `/opt/python/cp311-cp311` of a manylinux image is a link, and distutils follows it.
    """
    from distutils.sysconfig import get_python_inc

    named = [
        sysconfig.get_path("include"),
        sysconfig.get_path("platinclude"),
        get_python_inc(),
        get_python_inc(plat_specific=True),
        os.path.join(sys.exec_prefix, "include"),
        os.path.join(sys.base_exec_prefix, "include"),
    ]
    return sorted({*named, *map(os.path.realpath, named)})


def _facts():
    import setuptools
    import torch
    from torch.utils import cpp_extension

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "tag": "cp{}{}{}".format(*sys.version_info[:2], getattr(sys, "abiflags", "")),
        "platform": sysconfig.get_platform().replace("-", "_").replace(".", "_"),
        "extension_suffix": suffix,
        "python_includes": _python_includes(),
        "setuptools": setuptools.__version__,
        "torch": torch.__version__,
        "torch_git": torch.version.git_version,
        "torch_directory": os.path.dirname(os.path.abspath(torch.__file__)),
        "torch_abi": int(torch._C._GLIBCXX_USE_CXX11_ABI),
        "cuda": torch.version.cuda,
        "cuda_home": cpp_extension.CUDA_HOME,
    }


def _run_setup(spec):
    """Execute setup.py from its own folder with the flags before the commands."""
    build = spec["build"]
    sys.argv = ["setup.py", *spec["argv"]]
    sys.argv += ["build_ext", "--force", "-b", build + "/lib", "-t", build + "/temp"]
    sys.argv += ["build_py", "--force", "--build-lib", build + "/python"]
    os.chdir(spec["source"])
    sys.path.insert(0, spec["source"])
    runpy.run_path(os.path.join(spec["source"], "setup.py"), run_name="__main__")


def main():
    sys.dont_write_bytecode = True
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    os.environ["CAPTURE_EGG_BASE"] = spec["build"] + "/egg"
    for folder in ("egg", "lib", "temp", "python"):
        os.makedirs(os.path.join(spec["build"], folder), exist_ok=True)
    import setuptools  # noqa: F401  (before distutils, which it replaces)

    ninja, spawned, distributions = [], [], []
    _keep_ninja(ninja)
    _keep_spawned(spawned)
    _keep_distribution(distributions)
    with contextlib.redirect_stdout(sys.stderr):
        _run_setup(spec)
    found = {
        "schema": 1,
        "facts": _facts(),
        "setup": _arguments(distributions[-1]),
        "ninja": ninja,
        "spawned": spawned,
    }
    with open(spec["out"], "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
