"""Numbers as people read them: shares, counts, durations and sizes, the same on every page."""

import math

THIN = "\u202f"
"""Narrow no-break space: between a number and its unit, and between thousands."""


def percent(value: float | None, digits: int = 1) -> str:
    """0.944 as `94.4 %`; a dash where there is no number."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}{THIN}%"


def count(value: float) -> str:
    """12345 as `12 345`."""
    return f"{value:,.0f}".replace(",", THIN)


def plural(number: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def number(value: float | None) -> str:
    """A number of any size to four significant digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}" if abs(value) < 1e4 else count(value)


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `8.4 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.3g}{THIN}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest:02d}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60:02d}{THIN}min"


def size(count_of_bytes: float) -> str:
    """Bytes in decimal units: `1.3 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count_of_bytes < 999.5:
            return f"{count_of_bytes:.3g}{THIN}{unit}"
        count_of_bytes /= 1000
    return f"{count_of_bytes:.3g}{THIN}TB"
