"""A unit on its way between Ray stages: one row, whatever the unit holds.

Ray Data may split, merge or reorder rows of a block; it never splits a row. So a unit travels as one row whose rows and
pixels are packed in binary columns, and is exactly itself at the other end.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def pack(table: pa.Table) -> bytes:
    """The table as one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(cell: pa.Scalar) -> pa.Table:
    """The table that `pack` wrote, reading the cell's buffer in place."""
    return pa.ipc.open_stream(cell.as_buffer()).read_all()


def pack_maps(maps: Sequence[np.ndarray]) -> dict[str, object]:
    """Columns `maps` and `map_shape` of N maps (h, w) float32: one after the other, and h and w of each."""
    shapes = [side for cells in maps for side in cells.shape]
    return {"maps": b"".join(np.ascontiguousarray(cells).tobytes() for cells in maps), "map_shape": shapes}


def unpack_maps(unit: pa.Table, count: int) -> list[np.ndarray]:
    """The maps that `pack_maps` wrote, reading the buffer in place; two numbers alone are the shape of all `count` maps."""
    sides = unit["map_shape"][0].as_py()
    shapes = list(zip(sides[::2], sides[1::2], strict=True))
    shapes = shapes * count if len(shapes) == 1 else shapes
    cells = np.frombuffer(unit["maps"][0].as_buffer(), np.float32)
    ends = np.cumsum([0] + [height * width for height, width in shapes])
    return [cells[start : start + h * w].reshape(h, w) for start, (h, w) in zip(ends[:-1], shapes, strict=True)]  # (h, w)


def pack_explanations(explanations: dict[int, np.ndarray], method: str | None) -> dict[str, object]:
    """Columns `explanations`, `explained` and `explanation_method` of maps (h, w) float32 by position; none without a method.

    They have the shapes of the images' anomaly maps.
    """
    if method is None:
        return {}
    cells = b"".join(np.ascontiguousarray(each).tobytes() for each in explanations.values())
    positions = np.array(list(explanations), np.int64).tobytes()
    return {"explanations": cells, "explained": positions, "explanation_method": method}


def unpack_explanations(unit: pa.Table, maps: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """The maps that `pack_explanations` wrote, by position, reading the buffer in place.

    Args:
        maps: anomaly maps of all images of the unit.
    """
    if "explained" not in unit.column_names:
        return {}
    cells = np.frombuffer(unit["explanations"][0].as_buffer(), np.float32)
    found, start = {}, 0
    for position in np.frombuffer(unit["explained"][0].as_buffer(), np.int64).tolist():
        like = maps[position]
        found[position] = cells[start : start + like.size].reshape(like.shape)  # (h, w)
        start += like.size
    return found


def envelope(**columns: object) -> pa.Table:
    """A table of one row; bytes, memoryviews and Arrow buffers become large_binary, other values keep Arrow's choice."""
    arrays: dict[str, pa.Array] = {}
    for name, cell in columns.items():
        if isinstance(cell, bytes | memoryview | pa.Buffer):
            arrays[name] = _large_binary(cell if isinstance(cell, pa.Buffer) else pa.py_buffer(cell))
        else:
            arrays[name] = pa.array([cell])
    return pa.table(arrays)


def nothing_to_score(unit: pa.Table) -> bool:
    """Whether the envelope holds, instead of a unit, why storage could not give it (`message`), or the counts of a commit that
    is there already (`scored`, `errors`)."""
    return "rows" not in unit.column_names


def _large_binary(payload: pa.Buffer) -> pa.Array:
    offsets = pa.py_buffer(memoryview(bytearray(b"".join(n.to_bytes(8, "little") for n in (0, payload.size)))))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, payload])
