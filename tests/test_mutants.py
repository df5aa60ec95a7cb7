"""The mutations of mutants.py are found where they are to be made."""

import pytest
from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutation_can_be_made(mutant):
    assert (ROOT / "modimpute" / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
