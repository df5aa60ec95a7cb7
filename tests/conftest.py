import pytest
import torch
from hypothesis import settings

from modimpute import _transformer

# The tensors of the tests are small: more threads than one only get into each other's way.
torch.set_num_threads(1)

settings.register_profile("modimpute", deadline=None, derandomize=True)
settings.load_profile("modimpute")


def pytest_report_header():
    return f"torch {torch.__version__}"


@pytest.fixture
def amd(monkeypatch):
    """Puts in a processor for which narrow heads are filled up, at small sizes, or another one."""

    def put(there):
        monkeypatch.setattr(_transformer, "is_amd", lambda: there)

    for name, least in {"MANY": 2 * 2 * 6 * 4, "LONG": 4}.items():
        monkeypatch.setattr(_transformer, name, least)
    put(True)
    return put
