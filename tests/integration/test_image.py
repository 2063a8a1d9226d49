"""The Dockerfile, built and run by buildah on a base of a few files with this machine's /usr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.images import PYTHON, make_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.images import Images

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, requires_tool: Callable[[str], str]
) -> Iterator[Images]:
    requires_tool(PYTHON)
    with make_images(tmp_path_factory.mktemp("images"), requires_tool("buildah")) as images:
        yield images


APP = ("python3", "-c", "import apex, sys; print(apex.__file__); sys.exit(7)")


def test_it_installs_and_becomes_the_app(images: Images) -> None:
    image = images.build("pod")
    given = {"APEX_INSTALL_INDEX_URL": images.index_url, "APEX_INSTALL_GPU": "9.0"}
    assert images.run(image, "true", **given)[0] == 0
    code, out, err = images.run(image, *APP, **given)
    assert (code, out) == (7, "/site/apex/__init__.py\n"), err
    assert "apex: wheel, apex 0.1+" in err
    code, out, err = images.run(image, *APP, user="1000:1000", **given)
    assert code == 1
    assert "apex: none (target: cannot write /site" in err


def test_a_user_who_may_not_write_where_torch_is(images: Images) -> None:
    image = images.build("rootless", APP_UID="1234")
    given = {"APEX_INSTALL_INDEX_URL": images.index_url, "APEX_INSTALL_GPU": "9.0"}
    # PYTHONPATH is the target's in this stage; here the torch needs it too.
    code, out, err = images.run(image, *APP, PYTHONPATH="/opt/apex:/site", **given)
    assert (code, out) == (7, "/opt/apex/apex/__init__.py\n"), err


def test_the_wheel_is_baked_in(images: Images) -> None:
    image = images.build("baked", INDEX_URL=images.index_url, GPU="9.0")
    for user in ("", "1000:1000"):
        code, out, err = images.run(image, *APP, user=user, APEX_INSTALL_GPU="9.0")
        assert (code, out) == (7, "/site/apex/__init__.py\n")
        assert err.startswith("apex: already, apex 0.1+"), err


def test_an_image_for_which_there_is_no_wheel_is_not_baked(images: Images) -> None:
    with pytest.raises(AssertionError, match="apex: none"):
        images.build("baked", INDEX_URL=images.index_url, GPU="5.0")


def test_the_health_check_reads_the_report(images: Images) -> None:
    container = images.call("from", "--pull-never", images.build("")).stdout.strip()
    kind, *check = images.config(container)["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert images.run_in(container, *check)[0] == 0, "no report, nothing known"
    for code, line, healthy in ((0, "wheel, …", True), (3, "none (target: …)", False)):
        report = json.dumps({"exit_code": code, "line": line})
        write = f"open('/tmp/apex-install.json', 'w').write({report!r})"
        images.run_in(container, "python3", "-c", write)
        ended, _, err = images.run_in(container, *check)
        assert (ended == 0) is healthy
        assert line in err or healthy
    images.call("rm", container)


def test_nothing_else_gets_into_the_image(images: Images) -> None:
    container = images.call("from", "--pull-never", images.build("pod")).stdout.strip()
    found = images.run_in(container, "ls", "-R", "/opt")[1].split()
    assert sorted(found) == ["/opt:", "apex-install.pyz", "run.sh"]
    images.call("rm", container)
