"""Numbers and dates as a page shows them; a dash for what is not known."""

import math
from datetime import datetime, timezone
from typing import TypeGuard

MISSING = "–"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value can be shown as a number: an int or a float that is finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: object, digits: int = 0) -> str:
    """12,345.68 with a true minus sign; a dash for what is no number."""
    return f"{value:,.{digits}f}".replace("-", "−") if is_number(value) else MISSING


def in_bytes(bits: object) -> str:
    """Bits as whole bytes; a dash for what is no number."""
    return number(bits / 8) if is_number(bits) else MISSING


def ratio(value: object) -> str:
    """12.3×; a dash for what is no number."""
    return f"{number(value, 1)}×" if is_number(value) else MISSING


def figure(value: object, digits: int = 3) -> str:
    """Three significant digits, with a true minus sign."""
    return f"{value:.{digits}g}".replace("-", "−") if is_number(value) else MISSING


def signed(value: object) -> str:
    """Three significant digits, with a sign."""
    return f"{value:+.3g}".replace("-", "−") if is_number(value) else MISSING


def percent_of(part: object, whole: object) -> str:
    """A part of a whole, such as 12.3%; a dash without two numbers or for a whole of 0."""
    if not (is_number(part) and is_number(whole) and whole > 0):
        return MISSING
    percent = 100 * part / whole
    return "< 0.1%" if 0 < percent < 0.05 else f"{percent:.1f}%"


def score(value: object, unit: object = "") -> str:
    """A score with its unit: 1.94%, or 0.3127 nats."""
    if not is_number(value):
        return MISSING
    text = f"{value:.2f}%" if unit == "percent" else f"{value:.4g} {unit or ''}"
    return text.strip().replace("-", "−")


def change(value: object, before: object, unit: object) -> str:
    """The signed difference between two scores: +0.05 points."""
    if not (is_number(value) and is_number(before)):
        return MISSING
    difference = value - before
    text = f"{difference:+.2f} points" if unit == "percent" else f"{difference:+.3g} {unit or ''}"
    return text.strip().replace("-", "−")


def perplexity(bits: object) -> str:
    """2 to the bits of a label: among how many equally likely ones it would be as unsure."""
    if not is_number(bits):
        return MISSING
    return "> 1e300" if bits > 996 else f"{2**bits:.4g}"


def date(value: object) -> str:
    """2026-01-31 12:00 UTC, of ISO 8601."""
    try:
        when = datetime.fromisoformat(str(value))
    except ValueError:
        return MISSING
    return when.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


FILTERS = {
    "number": number,
    "bytes": in_bytes,
    "ratio": ratio,
    "percent_of": percent_of,
    "figure": figure,
    "signed": signed,
    "score": score,
    "change": change,
    "perplexity": perplexity,
    "date": date,
}
