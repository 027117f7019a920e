"""What the weights around lead one to expect: a value by least squares, and a size by averages.

Images and kernels are smooth, rows and channels differ in scale. For each place in a kernel the
products of a weight and its neighbours are summed; at the start of a row the normal equations are
solved, so a decoder knows the same coefficients. All in integers, of 64 bits at most.
"""

import math

FEATURES = 7  # neighbours that a value is predicted from
ORDER = FEATURES + 1
FRESH = 64  # weights between two solutions
SUMS, WIDEST, STEEPEST = 1 << 24, 1 << 40, 1 << 20  # so that products stay below 2**63
LARGEST = 4095
SCALES = 48


def sizes_table() -> list[int]:
    """Classes of sizes: four to each doubling, 0 to 48."""
    return [round(4 * math.log2(n + 1)) for n in range(LARGEST + 1)]


def expect(guess, line, a, width, place):
    """The value to expect at a place of a kernel, in units of 1/64. Its neighbours are kept."""
    around, coefficients = guess[0], guess[2]
    stride = width if width else 3
    around[0], around[1] = line[a - 1], line[a - stride + 1]
    around[2], around[3] = line[a - stride], line[a - stride - 1]
    around[4], around[5] = line[a - 2 * stride + 1], line[a - 2 * stride]
    around[6] = line[a]
    expected = 0
    for i in range(FEATURES):
        expected += coefficients[place * FEATURES + i] * around[i]
    return expected >> 10


def compare(guess, place, v):
    """Take notice of the value that came after ``expect``."""
    around, sums, seen = guess[0], guess[1], guess[3]
    around[FEATURES] = v
    start = place * ORDER * ORDER
    for i in range(ORDER):
        for j in range(i + 1):
            sums[start + i * ORDER + j] += around[i] * around[j]
    seen[place] += 1


def solve(guess, place):
    """The coefficients of a place, by elimination in units of 2**-16."""
    _, sums, coefficients, seen, work = guess[:5]
    start = place * ORDER * ORDER
    largest = 0
    for i in range(ORDER):
        largest = max(largest, sums[start + i * ORDER + i])
    shift = 0
    while largest >> shift >= SUMS:
        shift += 1
    for i in range(ORDER):
        for j in range(i + 1):
            sums[start + i * ORDER + j] >>= shift
            work[i * ORDER + j] = sums[start + i * ORDER + j] << 12
    ridge = (sums[start + ORDER * ORDER - 1] * 16 // (1 + seen[place]) + 16) << 12
    for k in range(FEATURES):
        pivot = max(1 << 12, work[k * ORDER + k] + ridge)
        for i in range(k + 1, ORDER):
            factor = within((work[i * ORDER + k] << 16) // pivot, STEEPEST)
            for j in range(k + 1, i + 1):
                product = factor * work[j * ORDER + k] >> 16
                work[i * ORDER + j] = within(work[i * ORDER + j] - product, WIDEST)
            work[k * ORDER + i] = factor
    for k in range(FEATURES - 1, -1, -1):
        value = work[k * ORDER + FEATURES]
        for j in range(k + 1, FEATURES):
            value -= coefficients[place * FEATURES + j] * work[k * ORDER + j] >> 16
        coefficients[place * FEATURES + k] = within(value, STEEPEST)


def within(value, most):
    """The nearest to a value in -most..most."""
    return max(-most, min(most, value))


def scale_row(guess, sizes, plan, r, pad, mean):
    """At the start of a row, the classes of the sizes of its channels and of places in a kernel."""
    columns, taps = plan[1], plan[5]
    channels, places, classes = guess[5:8]
    count = columns // taps
    for i in range(count):
        channels[i] = 0
    for i in range(taps):
        places[i] = 0
    for i in range(count):
        for j in range(taps):
            size = sizes[pad + i * taps + j]
            channels[i] += size
            places[j] += size
    per_channel, per_place = (1 << 32) // (r * taps + 8), (1 << 32) // (r * count + 8)
    for i in range(count):
        channels[i] = classes[min(LARGEST, (channels[i] * 64 + 8 * mean) * per_channel >> 32)]
    for i in range(taps):
        places[i] = classes[min(LARGEST, (places[i] * 64 + 8 * mean) * per_place >> 32)]


def expected_contexts(around, guess, plan, expected, means, c):
    """Contexts of a value to expect and of sizes to expect, into ``around`` from 10 on.

    ``means`` are the averages of |v| in units of 1/64: of the row, of the column, of the tensor.
    """
    taps = plan[5]
    channels, places, classes = guess[5:8]
    row, column, mean = (
        classes[min(LARGEST, means[0])],
        classes[min(LARGEST, means[1])],
        classes[min(LARGEST, means[2])],
    )
    other = channels[c // taps] + places[c % taps] - mean if taps > 1 else column
    scale = max(0, min(SCALES - 1, row + other - mean))
    fine = max(0, classes[min(LARGEST, abs(expected))] - 12)
    half = min(15, fine // 2)
    side = 15 + half if expected > 0 else 15 - half
    fine = 31 + min(31, fine) if expected > 0 else 31 - min(31, fine)
    around[10] = half * SCALES + scale
    around[11] = row // 2 * 25 + column // 2
    around[12] = side * 24 + scale // 2
    around[13] = fine
    around[14] = around[12]
    around[15] = row // 3 * 17 + column // 3
