"""The images of our Dockerfile, by buildah, on a base of a few files with this machine's /usr.

    with make_images(folder, "buildah") as images:
        image = images.build("baked", INDEX_URL=images.index_url, GPU="9.0")
        images.run(image, "python3", "-c", "import apex")

No image is pulled, and no runtime is needed: the isolation is chroot. Linux with a merged /usr.
"""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packaging

from support.carrying import pack_carrying, small_data
from support.machine import REPOSITORY
from support.tiny_pod import TinyPod, make_kit, module_bytes, site_packages
from support.wheels import ARCHITECTURES, MODULE

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = "/usr/bin/python3"
BASE = "localhost/base:tests"
FOLDERS = ("tmp", "proc", "sys", "dev", "run", "root", "opt", "etc", "usr", "site", "var/tmp")
MERGED = ("bin", "sbin", "lib", "lib64")
"""Links into /usr, as every current distribution has them."""


@dataclass(frozen=True)
class Images:
    """A storage of its own, gone with its folder."""

    buildah: str
    folder: Path
    index_url: str

    def call(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        storage = ["--root", self.folder / "root", "--runroot", self.folder / "run"]
        command = [self.buildah, *storage, "--storage-driver", "vfs", *words]
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def build(self, target: str, **arguments: str) -> str:
        """The name of the image."""
        given = {"BASE": BASE, "COMPILER": "none", **arguments}
        words = [
            word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")
        ]
        name = f"localhost/{target or 'default'}:tests"
        place = ["--isolation", "chroot", "--volume", "/usr:/usr:ro", "--format", "docker"]
        stage = ["--target", target] if target else []
        self.call("bud", *place, *stage, *words, "-t", name, self.folder / "context")
        return name

    def run(self, image: str, *words: str, user: str = "", **environ: str) -> tuple[int, str, str]:
        """(exit status, stdout, stderr) of the image's entry point with these words."""
        container = self.call("from", "--pull-never", image).stdout.strip()
        try:
            return self.run_in(container, *self._entry(container), *words, user=user, **environ)
        finally:
            self.call("rm", container)

    def run_in(
        self, container: str, *words: str, user: str = "", **environ: str
    ) -> tuple[int, str, str]:
        place = ["--isolation", "chroot", "--volume", "/usr:/usr:ro"]
        given = [word for name, value in environ.items() for word in ("--env", f"{name}={value}")]
        who = ["--user", user] if user else []
        command = ["/usr/bin/env", *words]  # this isolation looks no program up
        done = self.call("run", *place, *who, *given, container, "--", *command, check=False)
        return done.returncode, done.stdout, done.stderr

    def config(self, container: str) -> dict[str, Any]:
        found = json.loads(self.call("inspect", container).stdout)
        return dict(found["Docker"]["config"])

    def _entry(self, container: str) -> list[str]:
        return list(self.config(container)["Entrypoint"])


@contextmanager
def make_images(folder: Path, buildah: str, *, padding: bytes = b"") -> Iterator[Images]:
    """A storage with the base, and an index with one wheel, `padding` larger than its code."""
    said = subprocess.check_output(
        [PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    )
    kit = make_kit(folder / "kit", python=PYTHON, minor=said.decode().strip())
    tiny = TinyPod(folder / "pod", kit)
    tiny.offer(tiny.wheel(module_bytes={MODULE: module_bytes(*ARCHITECTURES) + padding}))
    write_base(folder / "base", torch=site_packages(kit.environment))
    with tarfile.open(folder / "base.tar", "w") as archive:
        archive.add(folder / "base", arcname=".")
    context = folder / "context"
    (context / "dist").mkdir(parents=True)
    for name in ("Dockerfile", ".dockerignore", "run.sh"):
        shutil.copy(REPOSITORY / name, context)
    (context / "secret").write_text("not for an image")
    packed = pack_carrying(folder, small_data(folder / "data"))
    shutil.copy(packed, context / "dist/apex-install.pyz")
    with _serving(tiny.index) as url:
        images = Images(buildah, folder, url)
        import_base(images)
        try:
            yield images
        finally:
            images.call("rm", "--all")
            images.call("rmi", "--all", "--force")


def write_base(folder: Path, *, torch: Path) -> None:
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    for name in MERGED:
        (folder / name).symlink_to(f"usr/{name}")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    shutil.copytree(torch, folder / "site", dirs_exist_ok=True)
    shutil.copytree(Path(packaging.__file__).parent, folder / "site/packaging")
    if Path("/etc/alternatives").is_dir():
        shutil.copytree("/etc/alternatives", folder / "etc/alternatives", symlinks=True)


def import_base(images: Images) -> None:
    """An image of one layer; PYTHONPATH leads /usr's Python to the torch."""
    container = images.call("from", "scratch").stdout.strip()
    images.call("add", container, images.folder / "base.tar", "/")
    for word in ("PYTHONPATH=/site", "PATH=/usr/local/bin:/usr/bin:/bin"):
        images.call("config", "--env", word, container)
    images.call("commit", "--rm", container, BASE)


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """A folder on loopback, which the builds' network is."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
