import pytest

import modimpute


@pytest.fixture(autouse=True, scope="session")
def public_names(doctest_namespace):
    """Docstring examples may use every public name, as after ``from modimpute import *``."""
    doctest_namespace |= {name: getattr(modimpute, name) for name in modimpute.__all__}
