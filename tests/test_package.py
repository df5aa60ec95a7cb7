"""What the built distributions hold: the wheel the package and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import modimpute

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    return folder


def test_wheel_holds_the_package_only(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"modimpute-{modimpute.__version__}.dist-info"
    package = {f"modimpute/{path.name}" for path in ROOT.glob("modimpute/*.py")}
    assert {name for name in names if not name.startswith(f"{info}/")} == package | {
        "modimpute/py.typed"
    }
    assert f"{info}/licenses/LICENSE" in names


def test_sdist_holds_what_the_tests_need(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "constraints.txt",
        "docs/conf.py",
        "examples/__init__.py",
        "modimpute/py.typed",
        "pyproject.toml",
        "tests/test_package.py",
    }
    assert not [name for name in names if name.startswith((".venv", "docs/generated"))]
