"""The context model: each symbol as "is it zero?", then its sign, then which value of that sign.

Every decision mixes (``mixing.py``) what its surroundings say: the row and the column so far, the
neighbours (pixels above and to the left where a row is an image), the same place in the rows
before, sizes and signs nearby, and how busy the unit is in the layer that feeds it. One source
runs as plain Python on lists or compiled on arrays (``compiled.py``).
"""

from pyro_sws.codec.arithmetic import LAST, POSITION, RANGE, READING, code_bit, room
from pyro_sws.codec.mixing import BUCKETS, learn, predict
from pyro_sws.codec.prediction import (
    FRESH,
    compare,
    expect,
    expected_contexts,
    scale_row,
    solve,
)

ZERO_INPUTS, DIRECT = 8, 2
VALUE_INPUTS = 6
ZERO_SLOTS = 5393  # 1 + 4 x 256 + 16 + 4096 + 256
SIGN_SLOTS = 512  # for each input
NODE_SLOTS = 64  # for each input and node
ZERO_RATE, VALUE_RATE = 10, 32
# Further inputs of each kind of decision, of what is expected: none in formats 2 and 3.
EXPECTED_INPUTS = 2
EXPECTED_SLOTS, EXPECTED_NODE_SLOTS = 1024, 768  # for each of them
COUNTED = 64  # counts from here on are one class


def classes() -> tuple[list[int], list[int]]:
    """Classes of counts, with edges 1, 2, 3, 4, 6, 9, 13, 20, 32, 64; and bit lengths."""
    edges = (1, 2, 3, 4, 6, 9, 13, 20, 32, 64)
    counts = [sum(n >= edge for edge in edges) for n in range(COUNTED + 1)]
    return counts, [n.bit_length() for n in range(1024)]


def first_weights(more: int) -> list[int]:
    """The weights of "is it zero?", sign and node, 0.13 and 0.2 at first."""
    zero, value = ZERO_INPUTS + DIRECT + more, VALUE_INPUTS + more
    return [8520] * (BUCKETS * zero) + [13107] * (2 * BUCKETS * value)


def slots_needed(values: int, more: int) -> int:
    """The number of chances for a tensor with so many values besides zero."""
    own = ZERO_SLOTS + VALUE_INPUTS * (SIGN_SLOTS + NODE_SLOTS * values)
    return own + more * (2 * EXPECTED_SLOTS + EXPECTED_NODE_SLOTS * values)


def padding(width: int) -> int:
    """How far before and after a row its neighbours may lie."""
    return max(6, 2 * width + 2)


def code_tensor(
    state, data, symbols, plan, link, inverse, constants, models, fields, around, guess
):
    """Code a matrix of symbols, row by row -> data. Decoding writes to ``symbols``.

    ``plan`` is rows, columns, the row length of the image that a row is or 0, the symbol of value
    0 or -1, the number of symbols, the weights of a kernel, and how many further inputs each
    decision has. ``guess`` is what ``prediction.py`` works on. ``link`` has a class of counts for
    each column. ``fields`` are arrays of zeros, ``columns + 2 padding(width)`` long, and ``around``
    one of 16.
    """
    rows, columns, width, zero, levels, taps, more = plan
    values = levels - 1 if zero >= 0 else levels
    negatives = zero if zero >= 0 else levels // 2
    busy, smooth, signs, sizes, history, line, shape, near, next1, next2, down = fields
    tables = constants[0]
    pad = padding(width)
    before = before2 = 0  # nonzeros of the last two rows
    total = fresh = 0  # sizes of the rows before; weights since the last solution
    for r in range(rows):
        mean, row_size, per_size = 64, 0, (1 << 32) // (r + 3)
        if more and r:
            mean = total * 64 // (r * columns)
            if fresh >= FRESH:
                fresh = 0
                for place in range(taps):
                    solve(guess, place)
        if more and taps > 1:
            scale_row(guess, sizes, plan, r, pad, mean)
        found = recent = last = 0  # of this row: nonzeros, the latest bits, the last nonzero value
        # What is the same in the whole row; divisions are products with 2**32 / divisor.
        share = (before + before2) * 65536 // columns * 12
        row = (r, before * 8192 // columns, share, (1 << 32) // (r + 1), (1 << 32) // (16 * r + 24))
        position = run = 0  # in the image's row: where, and a decaying sum of nonzeros
        for x in range(width + 1):
            down[x] = 0
        for c in range(columns):
            if state[POSITION] > state[LAST]:
                if state[READING]:
                    return data
                data = room(data, state)
            a, at = c + pad, r * columns + c
            nonzero = 1
            if more:
                expected = expect(guess, line, a, width, c % taps)
                row_mean = (row_size * 64 + 32 * mean) * inverse[c] >> 32
                means = (row_mean, (sizes[a] * 64 + 3 * mean) * per_size >> 32, mean)
                expected_contexts(around, guess, plan, expected, means, c)
            if zero >= 0:
                so_far = (found, recent, run + (above(down, position) if width else 0), inverse[c])
                column = (busy[a], smooth[a], history[a], shape[a], near[a], link[c])
                zero_contexts(models, constants, row, so_far, column, around, more)
                p = predict(tables, models, ZERO_INPUTS + more, DIRECT, 0)
                bit = 1 if symbols[at] != zero else 0
                nonzero = code_bit(state, data, bit, state[RANGE] * (65536 - p) >> 16)
                learn(tables, models, ZERO_INPUTS + more, DIRECT, nonzero, p, ZERO_RATE)
                near[a] = shape[a] = 0
            v = 0
            if nonzero:
                sums = (busy[a], signs[a], sizes[a])
                value_contexts(around, line, a, width, values, last, link[c], sums)
                rank = symbols[at] - (1 if 0 <= zero < symbols[at] else 0)
                sides = (values, negatives)
                rank = code_value(state, data, rank, sides, around, tables, models, more)
                symbols[at] = rank + (1 if 0 <= zero <= rank else 0)
                v = rank - negatives + (1 if rank >= negatives else 0)
                found, last = found + 1, v
                mark(a, width, busy, smooth, shape, near, next1, next2)
                signs[a] += 1 if v > 0 else -1
                sizes[a] += abs(v)
            else:
                symbols[at] = zero
            if more:
                compare(guess, c % taps, v)
                row_size += abs(v)
                fresh += 1
            line[a] = v
            history[a] = (history[a] << 1 | nonzero) & 7
            recent = (recent << 1 | nonzero) & 15
            run = (run * 3 >> 2) + 64 * nonzero
            if width:
                down[position] = (down[position] * 3 >> 2) + 64 * nonzero
                position += 1
                if position == width:
                    position = run = 0
        total += row_size
        before2, before = before, found
        near, next1, next2 = next1, next2, near
    return data


def above(down, position):
    """Nonzeros above in the image, the nearer the more: the column's and half its neighbours'."""
    beside = down[position + 1] >> 1
    if position:
        beside += down[position - 1] >> 1
    return down[position] + beside


def zero_contexts(models, constants, row, so_far, column, around, more):
    """Where the chances of "is it zero?" lie, and two densities as direct inputs."""
    r, part, share, per_row, per_smooth = row
    found, recent, window, per_column = so_far
    busy, smooth, history, shape, near, tied = column
    tables, counted, bits = constants
    chances, stretched, slots, stretch = models[0], models[3], models[5], tables[1]
    local = min(15, near)
    spread = bits[window // 6]
    many = counted[min(found, COUNTED)]
    if r == 0:
        density = 14
    elif busy == 0:
        density = 0 if r >= 64 else 1 if r >= 16 else 2
    else:
        density = 2 + bits[busy * 256 * per_row >> 32]
    part += found * 256
    across = 0 if part == 0 else 2 + bits[part * per_column >> 32]
    slots[0] = 0
    slots[1] = 1 + (history << 5 | (recent & 3) << 3 | shape & 7)
    slots[2] = 257 + tied * 16 + across
    slots[3] = 513 + spread * 16 + many
    slots[4] = 769 + local * 16 + density
    slots[5] = 1025 + many
    slots[6] = 1041 + (spread * 16 + density) * 16 + tied
    slots[7] = 5137 + (shape << 4 | recent)
    for i in range(more):
        slots[8 + i] = ZERO_SLOTS + i * EXPECTED_SLOTS + around[10 + i]
    overall = chances[0] >> 6 if chances[0] >= 0 else 32768
    around_it = (smooth * 65536 + overall * 24) * per_smooth >> 32
    in_row = (found * 65536 + share + overall * 8) * per_column >> 32
    stretched[8 + more] = stretch[min(65535, around_it)]
    stretched[9 + more] = stretch[min(65535, in_row)]


def mark(a, width, busy, smooth, shape, near, next1, next2):
    """Tell the places around a nonzero of it: in this row, and in the next two."""
    busy[a] += 1
    smooth[a] += 4
    smooth[a - 1] += 2
    smooth[a + 1] += 2
    near[a + 1] += 4
    near[a + 2] += 2
    next1[a] += 2
    next1[a - 1] += 1
    next1[a + 1] += 1
    next2[a] += 1
    if width:
        smooth[a - width] += 2
        smooth[a + width] += 2
        for corner in (a - width - 1, a - width + 1, a + width - 1, a + width + 1):
            smooth[corner] += 1
        near[a + width] += 4
        near[a + width - 1] += 2
        near[a + width + 1] += 2
        near[a + 2 * width] += 2
        next1[a - width] += 1
        next1[a + width] += 1
        shape[a + width] |= 1
        shape[a + width + 1] |= 2
        shape[a + width - 1] |= 4
        shape[a + 2 * width] |= 8


def value_contexts(around, line, a, width, values, last, tied, column):
    """What is around a nonzero: five contexts of its sign, then five of its size, into ``around``.

    Values are ranks with a sign: 1 is the smallest above zero, -1 the largest below.
    """
    busy, signs, sizes = column
    left, left2 = line[a - 1], line[a - 2]
    up = up2 = upleft = upright = upleft2 = upright2 = 0
    if width:
        up, up2 = line[a - width], line[a - 2 * width]
        upleft, upright = line[a - width - 1], line[a - width + 1]
        upleft2, upright2 = line[a - width - 2], line[a - width + 2]
    pull = 2 * left + 2 * up + upleft + upright + left2 + up2
    count = (left != 0) + (up != 0) + (upleft != 0) + (upright != 0)
    size = 0
    if count:
        size = 2 * (abs(left) + abs(up) + abs(upleft) + abs(upright)) // count
        size = 1 + min(6, size * 8 // values)
    usual = 0 if busy == 0 else 1 + min(6, sizes * 16 // busy // max(1, values // 2))
    quarter = values // 4
    around[0] = ((sign(left) * 3 + sign(up)) * 3 + sign(upleft)) * 3 + sign(upright)
    around[1] = strength(pull, 2) * 7 + strength(last, values)
    around[2] = (strength(left, quarter) * 7 + strength(up, quarter)) * 7 + sign(upright)
    around[3] = ((sign(upleft2) * 3 + sign(upright2)) * 3 + sign(up2)) * 3 + sign(left2)
    around[4] = strength(signs, 1) * 7 + strength(pull, 2)
    around[5] = strength(pull, values // 3 + 1) * 8 + size
    around[6] = min(15, abs(last) * 16 // values)
    around[7] = tied
    around[8] = usual * 8 + size
    around[9] = count


def sign(v):
    """0, 1 or 2 for zero, negative and positive."""
    return 0 if v == 0 else 1 if v < 0 else 2


def strength(v, step):
    """0 to 6: from far below zero to far above."""
    size = abs(v)
    grade = 0 if size == 0 else 1 if size <= step else 2 if size <= 3 * step else 3
    return 3 + grade if v > 0 else 3 - grade


def code_value(state, data, rank, sides, around, tables, models, more):
    """Code which of the values a nonzero is, down a tree that first asks for the sign -> rank."""
    slots = models[5]
    values, negatives = sides
    signs = ZERO_SLOTS + more * EXPECTED_SLOTS
    nodes = signs + VALUE_INPUTS * SIGN_SLOTS + more * EXPECTED_SLOTS
    sign_weights = BUCKETS * (ZERO_INPUTS + DIRECT + more)
    low, high = 0, values
    middle = negatives if 0 < negatives < values else (values + 1) // 2
    signed = 0 < negatives < values
    while high - low > 1:
        if signed:
            start, size, wide, first, weights = signs, SIGN_SLOTS, EXPECTED_SLOTS, 0, sign_weights
        else:
            each = VALUE_INPUTS * NODE_SLOTS + more * EXPECTED_NODE_SLOTS
            start, size, wide, first = nodes + each * middle, NODE_SLOTS, EXPECTED_NODE_SLOTS, 5
            weights = sign_weights + BUCKETS * (VALUE_INPUTS + more)
        slots[0] = start
        for i in range(1, VALUE_INPUTS):
            slots[i] = start + i * size + around[first + i - 1]
        for i in range(more):
            further = start + VALUE_INPUTS * size + i * wide
            slots[VALUE_INPUTS + i] = further + around[(12 if signed else 14) + i]
        p = predict(tables, models, VALUE_INPUTS + more, 0, weights)
        bit = code_bit(state, data, 1 if rank >= middle else 0, state[RANGE] * (65536 - p) >> 16)
        learn(tables, models, VALUE_INPUTS + more, 0, bit, p, VALUE_RATE)
        if bit:
            low = middle
        else:
            high = middle
        middle = (low + high + 1) // 2
        signed = False
    return low
