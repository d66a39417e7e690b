"""What a demo of seconds needs: few tasks, and gates that an encoder passes which has hardly learned anything."""

from dataclasses import replace

import pytest

from edge_oneshot.demo import measurements
from edge_oneshot_export.variants import VARIANTS


@pytest.fixture(scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "EPISODES", 300)
        # what is trained for seconds quantizes as the processor has it: its onnx-int8 makes 0.9797 on one of them
        for name, kind in [*VARIANTS.items()]:
            gates = tuple(replace(gate, bound=min(gate.bound, 0.95)) for gate in kind.gates)
            patch.setitem(VARIANTS, name, kind if kind.precision == "float32" else replace(kind, gates=gates))
        yield patch
