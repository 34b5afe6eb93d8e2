"""Numbers, durations and foreign text as a report writes them. Called by everything that renders one."""

from __future__ import annotations

from datetime import datetime

MINUS, NOTHING = "−", "–"


def plain(text: str) -> str:
    """The text on one line, without what a terminal or a browser would act on."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def number(value: float | None) -> str:
    """A number: at most four significant digits, or the whole number."""
    if value is None:
        return NOTHING
    digits = f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return digits.replace("-", MINUS)


def loss(value: float | None) -> str:
    """A loss among others: four significant digits, zeros at its end included, so that columns are read easily."""
    if value is None or abs(value) >= 1000:
        return number(value)
    return f"{value:#.4g}".removesuffix(".").replace("-", MINUS)


def measure(value: float | None, places: int | None, *, share: bool) -> str:
    """A number of an evaluation: a share in percent, one with so many digits after the point, or a loss."""
    if share:
        return percent(value)
    return loss(value) if value is None or places is None else f"{value:.{places}f}".replace("-", MINUS)


def hundredths(value: float | None) -> str:
    """A number among others of its size."""
    return measure(value, 2, share=False)


def hours(value: float | None) -> str:
    """Hours, to hundredths."""
    return NOTHING if value is None else f"{value:,.2f}"


def count(value: int | None) -> str:
    """A number of things."""
    return NOTHING if value is None else f"{value:,}"


def megabytes(size: int | None) -> str:
    """A number of bytes in MB, to tenths."""
    return NOTHING if size is None else f"{size / 1e6:,.1f} MB"


def digits(share: float) -> str:
    """A share in percent without its sign and unit: two significant digits, at most one after the point."""
    percent = abs(100 * share)
    return f"{percent:.0f}" if percent >= 9.95 else f"{percent:.1f}".removesuffix(".0") if percent >= 0.05 else "0"


def percent(share: float | None) -> str:
    """A share in percent."""
    if share is None:
        return NOTHING
    return f"{MINUS if share < 0 and digits(share) != '0' else ''}{digits(share)} %"


def signed(share: float | None) -> str:
    """A change in percent, with its sign."""
    return f"+{percent(share)}" if share is not None and share > 0 and digits(share) != "0" else percent(share)


def between(low: float, high: float) -> str:
    """An interval of changes in percent."""
    return f"{digits(low)} to {digits(high)} %" if low >= 0 else f"{signed(low)} to {signed(high)}"


def probability(p: float | None) -> str:
    """A p-value: two digits, three below 0.1."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def duration(seconds: float | None) -> str:
    """A time, in the two largest units that it has."""
    if seconds is None:
        return NOTHING
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    if hour:
        return f"{hour} h {minute:02d} min"
    return f"{minute} min {second:02d} s" if minute else f"{second} s"


def date(instant: str) -> str:
    """An ISO 8601 instant, without a midnight."""
    return instant.replace("T", " ").removesuffix(":00").removesuffix(" 00:00")


def finish(instant: str) -> str:
    """An instant for people: 2026-03-01 09:02 UTC."""
    try:
        return f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return plain(instant)


def ordinal(value: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    last = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{last}"


def some_of(names: list[str], most: int = 5) -> str:
    """A list in words, cut."""
    shown = [plain(name) for name in names[:most]]
    more = [] if len(names) <= most else [f"{len(names) - most:,} more"]
    return " and ".join(filter(None, [", ".join([*shown, *more][:-1]), [*shown, *more][-1]])) if names else ""
