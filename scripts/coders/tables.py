"""The tables of the coders, from coders, codec, dense, fuzz and memoryless.json in docs/results."""

from collections.abc import Mapping
from typing import Any

CODER_ORDER = ("context", "order0", "csr_huffman_2017", "nncodec", "xz", "zlib")
CODER_VARIANTS = ("as_they_are", "rewritten", "rewritten_for_it")


def coders_table(found: Mapping[str, Any], source: str) -> str:
    """Bytes of a whole file, and in brackets the payload over the order-0 entropy."""
    coders = [coder for coder in CODER_ORDER if any(coder in row for row in found.values())]
    head = ["network", "weights", "non-zero", "test error", "order-0 entropy", *coders]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in found.items():
        if name.startswith("_"):
            continue
        error = row["test_error_percent"]
        cells = [
            f"`{name}`",
            f"{row['weights']:,}",
            f"{row['nonzero']:,}",
            "-" if error is None else f"{error:.2f} %",
            f"{row['order0_entropy_bytes']:,.0f}",
            *(_bytes_cell(row.get(coder)) for coder in coders),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", source])


def coder_seconds_table(found: Mapping[str, Any]) -> str:
    """Bytes as it is and rewritten, and seconds, a coder and network."""
    lines = ["| network | coder | as it is | rewritten | rewritten for it | encode | decode |"]
    lines.append("|---" * 7 + "|")
    for name, row in found.items():
        for coder in CODER_ORDER if not name.startswith("_") else ():
            if coder in row:
                one = row[coder]
                sizes = (one.get(f"bytes_{which}") for which in CODER_VARIANTS)
                cells = ["-" if size is None else f"{size:,}" for size in sizes]
                cells += [f"{one[f'{side}_seconds']:.3g} s" for side in ("encode", "decode")]
                lines.append(f"| `{name}` | {coder} | {' | '.join(cells)} |")
    return "\n".join(lines)


def coders_short_table(found: Mapping[str, Any]) -> str:
    """Whole files: ours and nncodec's, each also where nncodec has its own order of units."""
    lines = ["| network | error | this file | nncodec | its own order | 2017 format | xz |"]
    lines.append("|---" * 7 + "|")
    for name, row in found.items():
        if name.startswith("_"):
            continue
        own = row["context"]["bytes"]
        nncodec = row["nncodec"]
        others = [nncodec["bytes"], nncodec["bytes_rewritten_for_it"]]
        cells = [f"{other:,} ({100 * (own / other - 1):+.1f} %)" for other in others]
        cells += [f"{row[name]['bytes']:,}" for name in ("csr_huffman_2017", "xz")]
        error = row["context"]["test_error_percent"]
        lines.append(f"| `{name}` | {error:.2f} % | {own:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def codec_table(found: Mapping[str, Any], source: str) -> str:
    """Weights a second, and bytes of memory a weight where they were measured."""
    lines = ["| network | way | encode, weights/s | decode | memory: encode | decode |"]
    lines.append("|---" * 6 + "|")
    for case, ways in found.items():
        for way, row in ways.items() if not case.startswith("_") else ():
            speeds = [f"{row[f'{what}_weights_per_second']:,.0f}" for what in ("encode", "decode")]
            memory = [row.get(f"{what}_bytes_per_weight") for what in ("encode", "decode")]
            cells = speeds + ["-" if m is None else f"{m:.1f} bytes/weight" for m in memory]
            lines.append(f"| {case} | {way} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", source])


def fuzz_table(found: Mapping[str, Any], source: str) -> str:
    """Kinds of mutants by outcome, and what was worst."""
    outcomes = ("refused", "wrong or no architecture", "decoded")
    lines = ["| mutants | refused | architecture | decoded |", "|---" * 4 + "|"]
    for kind, counts in found["outcomes"].items():
        cells = [f"{counts.get(outcome, 0):,}" for outcome in outcomes]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    slowest, peak = found["slowest"]["seconds"], found["peak_resident_mb"]
    worst = (
        f"{found['mutants']:,} mutants, seed {found['seed']}: {found['failed']} failed; slowest "
        f"{slowest:.2f} s; at most {peak:.0f} MB more resident; {found['seconds']:.0f} s in all."
    )
    return "\n".join([*lines, "", worst, "", source])


def memoryless_table(found: Mapping[str, Any], source: str) -> str:
    """The worst case of each size."""
    lines = ["| symbols | cases | worst: alphabet, source | bytes | excess |", "|---" * 5 + "|"]
    for size, row in found.items():
        if not size.startswith("_"):
            worst = row["worst"]
            case = f"{worst['levels']}, {worst['source']}{', a zero' if worst['zero'] else ''}"
            cells = f"{worst['bytes']:,} | {worst['excess_bytes']:.2f} bytes"
            lines.append(f"| {int(size):,} | {row['cases']} | {case} | {cells} |")
    return "\n".join([*lines, "", source])


def dense_table(found: Mapping[str, Any], source: str) -> str:
    """Bytes with and without the contexts of format 4, and what they do to the time."""
    heads = ("network, step", "weights", "order0", "format 2", "format 4", "change", "decode time")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in found.items():
        if not name.startswith("_"):
            before, after = row["bytes_before"], row["bytes_after"]
            time = row["decode_seconds_after"] / row["decode_seconds_before"]
            sizes = f"{row['weights']:,} | {row['bytes_order0']:,} | {before:,} | {after:,}"
            lines.append(
                f"| `{name}` | {sizes} | {100 * (after / before - 1):+.2f} % | {time:.2f} x |"
            )
    return "\n".join([*lines, "", source])


def _bytes_cell(row: dict | None) -> str:
    if row is None:
        return "-"
    ratio = row["ratio_to_order0_entropy"]
    return f"{row['bytes']:,}" + ("" if ratio is None else f" ({ratio:.3f})")
