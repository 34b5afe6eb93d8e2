"""The operator under thousands of models: a real control plane, kwok in the place of kubelets."""

import sys
from pathlib import Path

# The control plane and the operator's process are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "cluster"))
