"""Binary arithmetic coding in integers: decisions of given probability to bytes and back.

A range coder after Martin (1979) with a 32-bit range that is renewed by the byte, so one stream
for all tensors and one flush. A decision's share of the range is an integer that both sides
compute alike; all products fit 64 bits. ``code_bit`` and ``code_sequence`` run as plain Python on
lists, or compiled on arrays (``compiled.py``); both do the same arithmetic.
"""

FULL = 1 << 32  # the range at the start
RENEW = 1 << 24  # below this the range is renewed by a byte
SPARE = 4  # bytes that a decoder may read past the end, as zeros: the encoder drops up to so many
LEAST = 18  # a sequence's decision keeps at least range / 2**18, so that each costs something
ROOM = 64  # bytes that a symbol's decisions can fill at most

# Places in the state that both directions share. LOW is the interval's lower end, less the bytes
# already out (encoder), or the payload's number less that lower end (decoder).
LOW, RANGE, POSITION, READING, LAST = range(5)
# LAST is the place beyond which a reader is at fault and a writer's array is full.
ENDLESS = 1 << 62


def code_bit(state, data, bit, bound):
    """Code one decision, 0 with the share ``bound`` of the range, 0 < bound < range -> the bit."""
    if state[READING]:
        if state[LOW] < bound:
            bit = 0
            state[RANGE] = bound
        else:
            bit = 1
            state[LOW] -= bound
            state[RANGE] -= bound
        while state[RANGE] < RENEW:
            position = state[POSITION]
            byte = data[position] if position < len(data) else 0
            state[LOW] = state[LOW] << 8 | byte
            state[POSITION] = position + 1
            state[RANGE] <<= 8
        return bit
    if bit:
        state[LOW] += bound
        state[RANGE] -= bound
    else:
        state[RANGE] = bound
    while state[RANGE] < RENEW:
        write_byte(state, data)
        state[RANGE] <<= 8
    return bit


def write_byte(state, data):
    """Write the top byte of LOW, with the carry that it holds."""
    low = state[LOW]
    if low >= FULL:
        carry(data, state[POSITION])
        low -= FULL
    put(data, state[POSITION], low >> 24)
    state[POSITION] += 1
    state[LOW] = (low & 0xFFFFFF) << 8


def put(data, position, byte):
    """Set a byte: at the end of a growing bytearray, or in an array with room."""
    data.append(byte)


def carry(data, position):
    """Add 1 to the bytes before ``position``, taken as one number."""
    last = position - 1
    while data[last] == 255:
        data[last] = 0
        last -= 1
    data[last] += 1


def code_sequence(state, data, bits, count, zeros, total, least):
    """Code ``count`` bits under the estimator of Krichevsky & Trofimov (1981) -> data.

    After n0 zeros among n bits the next is 0 with probability (zeros + 2 n0) / (total + 2 n). Each
    side keeps at least range >> least. Reading writes to ``bits``.
    """
    for i in range(count):
        if state[POSITION] > state[LAST]:
            if state[READING]:
                break
            data = room(data, state)
        span = state[RANGE]
        share = max(1, span >> least)
        bound = min(max(span * zeros // total, share), span - share)
        bit = code_bit(state, data, bits[i], bound)
        bits[i] = bit
        if not bit:
            zeros += 2
        total += 2
    return data


def room(data, state):
    """The bytes with room for one more symbol: arrays grow here, a bytearray by itself."""
    return data
