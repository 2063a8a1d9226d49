"""The start script of the how-to: environment on a volume, torch, Apex, app, with a stub for pip.

The app starts after each outcome, at the first start and at the second.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import packaging
import pytest

from support.fake_build import prepare_build
from support.fault import Kits
from support.machine import REPOSITORY
from support.start_pod import StartPod
from support.tiny_pod import TinyPod

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

PAGE = REPOSITORY / "docs/how-to/from-a-start-script.md"
APP = """\
import sys
from pathlib import Path
try:
    import apex
except ImportError:
    print("no apex")
else:
    broken = Path(apex.__file__).with_name("broken.py").exists()
    print("a broken apex" if broken else "apex")
sys.exit(7)
"""
PIP = """\
site=$(echo "$VIRTUAL_ENV"/lib/python3*/site-packages)
case $* in *torch==*) [ -e "$site/torch" ] || cp -R "{store}/." "$site" ;; esac
"""
"""Installs what the pod's own environment was made with; does nothing where it is there."""


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Kits:
    return Kits(tmp_path_factory.mktemp("kits"))


class Volume:
    """A pod whose script lies on a volume, where it makes its environment."""

    def __init__(self, folder: Path, kits: Kits, stack: ExitStack, *, outcome: str) -> None:
        kit = kits.tiny if outcome == "none" else kits.carrying
        self.pod = StartPod(TinyPod(folder, kit), stack)
        store = self.pod.target
        shutil.copytree(Path(packaging.__file__).parent, store / "packaging")
        if outcome == "compiled":
            prepare_build(self.pod)
        elif outcome != "wheel":
            self.pod.tiny.index.rename(folder / "no-index")
        self.app = folder / "workspace/app"
        self.app.mkdir(parents=True)
        (self.app / "app.py").write_text(APP)
        (self.app / "requirements.txt").write_text("")
        self.pod.write_tool("pip", PIP.format(store=store))
        # The pod's first Python is the one that makes the environment, and has no torch.
        python = self.pod.tiny.python.resolve()
        self.pod.environ["PATH"] = ":".join(
            word for word in self.pod.environ["PATH"].split(":") if word != str(python.parent)
        )
        self.pod.write_tool("python3", f'exec "{python}" "$@"')
        script = self._script()
        self.pod.folder = folder / "start"  # the script stands in for run.sh, which it starts
        self.pod.folder.mkdir()
        (self.pod.folder / "run.sh").write_text(script)
        (self.pod.folder / "run.sh").chmod(0o755)

    def _script(self) -> str:
        """As the page has it, but for where things are."""
        (text,) = re.findall(r"runs this script -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
        for theirs, ours in (
            ("/workspace", str(self.app.parent)),
            ("/opt", str(self.pod.folder)),
            ("https://<your farm>/", self.pod.environ["APEX_INSTALL_INDEX_URL"]),
            ("-m venv", "-m venv --without-pip"),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        return str(text)

    @property
    def site(self) -> Path:
        (found,) = self.app.glob("venv/lib/python3*/site-packages")
        return found

    def start(self) -> tuple[str, str, int]:
        """(outcome, what the app said, exit status)."""
        start = self.pod.start()
        assert not start.left
        return start.outcome, start.out.strip(), start.code


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def leave_a_broken_apex(site: Path) -> None:
    """What upstream's Python-only build leaves: all of Apex but its modules, owned by pip."""
    files = {
        "apex/__init__.py": "",
        "apex/broken.py": "import fused_layer_norm_cuda\n",
        "apex-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: apex\nVersion: 0.1\n",
        "apex-0.1.dist-info/INSTALLER": "pip\n",
    }
    record = ""
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{name},sha256={digest.decode()},{len(text)}\n"
    record += "apex-0.1.dist-info/RECORD,,\n"
    (site / "apex-0.1.dist-info/RECORD").write_text(record)


@pytest.mark.parametrize("broken", [False, True], ids=["new volume", "a broken apex there"])
@pytest.mark.parametrize(
    ("outcome", "second"),
    [
        ("wheel", "already"),
        ("compiled", "already"),
        ("python-only", "python-only"),
        ("none", "none"),
    ],
)
def test_the_app_starts_after_each_outcome(
    outcome: str, second: str, tmp_path: Path, kits: Kits, stack: ExitStack, *, broken: bool
) -> None:
    volume = Volume(tmp_path / "pod", kits, stack, outcome=outcome)
    if broken:
        volume.pod.set(APEX_INSTALL_SKIP="1")
        assert volume.start() == ("", "no apex", 7)
        del volume.pod.environ["APEX_INSTALL_SKIP"]
        leave_a_broken_apex(volume.site)
    nothing = "a broken apex" if broken else "no apex"
    said = nothing if outcome == "none" else "apex"
    assert volume.start() == (outcome, said, 7)
    assert volume.start() == (second, said, 7)
