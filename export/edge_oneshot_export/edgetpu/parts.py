"""Which operators form the one part of a graph that the Edge TPU compiler maps.

The compiler is a delegate of TensorFlow Lite (its errors say so: "Restored original execution plan
after delegate application failure"), and TensorFlow Lite cuts a graph for a delegate as
`PartitionGraphIntoIndependentNodeSubsets` in tensorflow/lite/graph_info.cc does: the first operator
that can run says of which kind the first part is, all of this kind that can run then belong to it,
then comes a part of the other kind, and so on. Of the parts that can be mapped the compiler takes
the first, however small: docs/edge-tpu.md, "Which part is mapped", has the logs that show it.
"""

from collections import defaultdict
from collections.abc import Sequence

from edge_oneshot_export.formats.tflite_file import Operator


def first_part(operators: Sequence[Operator], able: Sequence[bool]) -> set[int]:
    """The operators that are mapped, by their place.

    Args:
        operators: Of one graph, in their order.
        able: Of each, whether it could be mapped by itself.
    """
    computed = {tensor for operator in operators for tensor in operator.outputs if tensor >= 0}
    readers = defaultdict[int, list[int]](list)
    waits = [0] * len(operators)
    for place, operator in enumerate(operators):
        for tensor in operator.inputs:
            if tensor in computed:
                readers[tensor].append(place)
                waits[place] += 1
    ready = [place for place, count in enumerate(waits) if count == 0]
    if not ready:
        return set()
    part: set[int] = set()
    # what cannot be mapped and stands first, a CAST say, is a part of its own, on the CPU
    for kind in (True,) if able[ready[0]] else (False, True):
        part, held = set(), []
        while ready:
            place = ready.pop()
            if able[place] != kind:
                held.append(place)
                continue
            part.add(place)
            for tensor in operators[place].outputs:
                # taken out, so that a tensor that two operators claim to compute is counted once
                for reader in readers.pop(tensor, ()):
                    waits[reader] -= 1
                    if waits[reader] == 0:
                        ready.append(reader)
        ready = held
    return part
