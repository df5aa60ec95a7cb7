"""Which processors are told apart."""

import pytest
import torch

from modimpute import _processor


@pytest.fixture
def processor(monkeypatch):
    """Returns a function that puts in another one."""

    def put(**can):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)

    monkeypatch.setattr(torch._C, "has_mkl", True)
    return put


@pytest.mark.parametrize(
    ("name", "able", "there"),
    [
        ("AMD EPYC 9555", True, True),
        ("AMD EPYC 7763", False, False),
        ("Intel(R) Xeon(R)", True, False),
    ],
)
def test_those_that_mkl_makes_less_of(name, able, there, processor, monkeypatch):
    processor(cpu_name=name, avx512_f=able)
    assert _processor.is_amd.__wrapped__() is there
    monkeypatch.setattr(torch._C, "has_mkl", False)  # torch asks another library first
    assert not _processor.is_amd.__wrapped__()


@pytest.mark.parametrize("wide", [True, False])
def test_those_that_multiply_512_bits_at_once(wide, processor):
    processor(avx_vnni=wide)
    assert _processor.is_wide.__wrapped__() is wide


def test_older_versions_of_torch_tell_nothing(monkeypatch):
    monkeypatch.setattr(torch._C, "has_mkl", True)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not _processor.is_amd.__wrapped__()
    assert not _processor.is_wide.__wrapped__()
