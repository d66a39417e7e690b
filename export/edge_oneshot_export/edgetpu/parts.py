"""Which operators form the one part of a graph that the Edge TPU compiler maps.

The compiler is a delegate of TensorFlow Lite ("Restored original execution plan after delegate application failure",
its log says), and TensorFlow Lite partitions a graph for a delegate with `PartitionGraphIntoIndependentNodeSubsets` in
tensorflow/lite/graph_info.cc. The first operator that is ready decides the kind of the first part, mappable or not. All
operators of this kind that become ready belong to it; then comes a part of the other kind, and so on. Of the mappable
parts the compiler takes the largest: docs/reference/edge-tpu.md, "Which part is mapped", says what that rests on.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from edge_oneshot_export.formats.tflite_file import Operator


def mapped_part(operators: Sequence[Operator], able: Sequence[bool]) -> set[int]:
    """Predict which operators are mapped.

    Args:
        operators: The operators of one graph, in their order.
        able: For each operator whether it could be mapped by itself.

    Returns:
        The positions of the mapped operators.
    """
    return max(_mappable_parts(operators, able), key=len, default=set())


def _mappable_parts(operators: Sequence[Operator], able: Sequence[bool]) -> Iterable[set[int]]:
    computed = {tensor for operator in operators for tensor in operator.outputs if tensor >= 0}
    readers = defaultdict[int, list[int]](list)
    waits = [0] * len(operators)
    for place, operator in enumerate(operators):
        for tensor in operator.inputs:
            if tensor in computed:
                readers[tensor].append(place)
                waits[place] += 1
    ready = [place for place, count in enumerate(waits) if count == 0]
    kind = able[ready[0]] if ready else True
    while ready:
        part, held = set(), []
        while ready:
            place = ready.pop()
            if able[place] != kind:
                held.append(place)
                continue
            part.add(place)
            for tensor in operators[place].outputs:
                # removed, so that a tensor that two operators claim to compute is counted once
                for reader in readers.pop(tensor, ()):
                    waits[reader] -= 1
                    if waits[reader] == 0:
                        ready.append(reader)
        if kind:
            yield part
        ready, kind = held, not kind
