"""The largest arrays of a compiled program, read from its text: where its temporaries come from."""

import re
from collections import Counter
from typing import Any

from jepa_speech.costs.collectives import shape_bytes

INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][\w\-]*)\(")
ARRAY = re.compile(r"([a-z]+\d+\w*|pred)\[([\d,]*)\](\{[^}]*\})?")
SOURCE = re.compile(r'op_name="([^"]*)"')
# They name an array that another instruction has made.
OTHERS_ARRAYS = {"parameter", "bitcast", "get-tuple-element", "tuple", "while", "conditional", "constant"}
FAST = re.compile(r"S\([1-9]\)")  # the memory space of an array that is not in HBM


def largest_arrays(text: str, count: int = 10) -> list[dict[str, Any]]:
    """The largest arrays that the main computation of a module (`compiled.as_text()`) writes to a device's memory.

    Those that are inside loops, conditionals and fusions, and those in fast memory, do not count. Not all are alive at
    once. Returns dicts, largest first: shape, as f32[32,6002,512] · bytes, of one, without padding · times: how many
    there are · operation, and source: the operation that it belongs to, as jax names it.
    """
    main, found = False, Counter[tuple[int, str, str, str]]()
    for line in text.splitlines():
        if re.match(r"(ENTRY )?%?[\w.\-]+ \(.*\{$", line):
            main = line.startswith("ENTRY ")
        instruction = INSTRUCTION.match(line) if main else None
        if not instruction or instruction[2] in OTHERS_ARRAYS or instruction[2].endswith("-done"):
            continue
        source, arrays = SOURCE.search(line), ARRAY.findall(instruction[1])
        if instruction[2].endswith("-start"):
            arrays = arrays[:1] if instruction[2] == "copy-start" else []  # the copy, of the pair of copy and original
        for kind, sizes, layout in arrays:
            if not FAST.search(layout):
                name = f"{kind}[{sizes}]", instruction[2], source[1] if source else ""
                found[shape_bytes((kind, sizes)), *name] += 1
    ordered = sorted(found.items(), key=lambda item: (-item[0][0], item[0]))[:count]
    return [
        {"shape": shape, "bytes": size, "times": times, "operation": operation, "source": source}
        for (size, shape, operation, source), times in ordered
    ]
