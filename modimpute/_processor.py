"""What the CPU is, where that decides which call is fastest."""

import functools

import torch


@functools.cache
def is_amd() -> bool:
    """Whether MKL, which torch asks first, makes less of it than it could.

    MKL gives all processors of AMD its kernels for AVX2, those with AVX-512, too.
    """
    able = bool(_capabilities().get("avx512_f"))
    return able and str(_capabilities().get("cpu_name")).startswith("AMD") and torch._C.has_mkl


@functools.cache
def is_wide() -> bool:
    """Whether it multiplies 512 bits at once: from Zen 5 on, which AVX-VNNI tells from Zen 4."""
    return bool(_capabilities().get("avx_vnni"))


def _capabilities() -> dict[str, object]:
    can: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return can
