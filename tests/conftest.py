import torch
from hypothesis import settings

# The tensors of the tests are small: more threads than one only get into each other's way.
torch.set_num_threads(1)

settings.register_profile("modimpute", deadline=None, derandomize=True)
settings.load_profile("modimpute")


def pytest_report_header():
    return f"torch {torch.__version__}"
