"""Logistic mixing in integers: adaptive estimates of one decision, weighed as they prove.

Each context keeps a chance, in units of 2**-22, that the next decision is 1. The chances,
stretched to ln p / (1 - p) in units of 2**-8, are summed with weights in units of 2**-16; the sum,
squashed, is the probability, in units of 2**-16. After the decision each chance moves towards it
by a share that falls with the times it was seen, and the weights go down the gradient of the code
length (Mattern 2012; Mahoney's PAQ). All in integers: every machine writes the same bytes.
"""

import math

REACH = 3071  # stretched values lie in -REACH..REACH: 12 nats
ONE = 1 << 16  # a probability of 1
EVEN = 1 << 21  # a chance of 1/2
LIMIT = 400  # beyond so many decisions a chance forgets the oldest
BUCKETS = 7  # a weight for each of so many ranges of how often its chance was seen


def tables() -> tuple[list[int], ...]:
    """The constants, from the formulas in docs/format.md; none is near a rounding boundary."""
    nats = [x / 256 for x in range(-REACH, REACH + 1)]
    squash = [min(ONE - 1, max(1, round(ONE / (1 + math.exp(-x))))) for x in nats]
    stretch = [0] * ONE
    for p in range(ONE):
        q = max(p, 0.5) / ONE
        stretch[p] = round(256 * math.log(q / (1 - q)))
    share = [ONE // (n + 2) for n in range(LIMIT + 1)]
    bucket = [_bucket(n) for n in range(LIMIT + 1)]
    return squash, stretch, share, bucket


def _bucket(n: int) -> int:
    """0, 1, 2-3, 4-7, 8-15, 16-47, 48 and more."""
    return min(n.bit_length(), 5) + (n >= 48)


def predict(tables, models, count, direct, base):
    """The probability of a 1, in 1..65535, from ``count`` chances and ``direct`` stretched values.

    ``models`` are the chances, how often each was seen, the weights, and what the last call left
    for ``learn``: inputs, weights' places, chances' places (``slots``, set by the caller). A chance
    that is new starts where the first one stands.
    """
    squash, stretch, _, bucket = tables
    chances, seen, weights, stretched, chosen, slots = models
    parent = chances[slots[0]]
    if parent < 0:
        parent = EVEN
    dot = 0
    for i in range(count):
        slot = slots[i]
        chance = chances[slot]
        if chance < 0:
            chances[slot] = chance = parent
        value = stretch[chance >> 6]
        at = base + BUCKETS * i + bucket[seen[slot]]
        stretched[i] = value
        chosen[i] = at
        dot += weights[at] * value
    for i in range(count, count + direct):
        at = base + BUCKETS * i
        chosen[i] = at
        dot += weights[at] * stretched[i]
    dot >>= 16
    if dot > REACH:
        dot = REACH
    elif dot < -REACH:
        dot = -REACH
    return squash[dot + REACH]


def learn(tables, models, count, direct, bit, probability, rate):
    """Move the chances and the weights of the last ``predict`` after its decision."""
    _, _, share, _ = tables
    chances, seen, weights, stretched, chosen, slots = models
    error = ((bit << 16) - probability) * rate
    target = bit << 22
    for i in range(count):
        weights[chosen[i]] += stretched[i] * error >> 20
        slot = slots[i]
        n = seen[slot]
        chances[slot] += (target - chances[slot]) * share[n] >> 16
        if n < LIMIT:
            seen[slot] = n + 1
    for i in range(count, count + direct):
        weights[chosen[i]] += stretched[i] * error >> 20
