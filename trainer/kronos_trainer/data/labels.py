"""Timestamps at the end of their bars (`data.label: right`): how to detect them, and the starts of their bars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kronos_trainer.data.quality.trading_hours import DAY, HOUR, MONDAY, SATURDAY, WEEK

Int64 = npt.NDArray[np.int64]

MINUTE = HOUR // 60
MOST = 0.9  # of the stamps; the rest may be odd
AFTERNOON = 14 * HOUR  # no exchange opens later than this
MONTH = 27 * DAY  # no month is shorter

# First and last minute of sessions, of which one bar ends, but none begins, at the last.
_SESSIONS = (("09:30", "16:00"), ("09:30", "15:00"), ("09:15", "15:30"), ("09:00", "15:00"), ("09:00", "15:30"))


def right_labelled(times: Int64, step: int) -> str | None:
    """Why the ascending wall-clock ns [N], `step` ns apart, look like the ends of their bars; None if they do not."""
    if len(times) < 5 or step < MINUTE or step >= WEEK:
        return None
    left = -times % step  # until the next whole step
    if step <= DAY and np.count_nonzero((left > 0) & (left <= _breath(step))) >= MOST * len(times):
        return f"a moment before the next bar begins, as {_clock(times[-1])}"
    if step == DAY:
        in_day = times % DAY
        at = int(in_day[len(in_day) // 2])
        business = not ((times // DAY + 3) % 7 >= SATURDAY).any()
        if at >= AFTERNOON and business and np.count_nonzero(in_day == at) >= MOST * len(times):
            return f"at the close, {_clock(at)}"
        return None
    days = np.flatnonzero(np.diff(times // DAY))
    if len(days) < 4 or step > HOUR:
        return None
    first, last = _common(times[days + 1] % DAY), _common(times[days] % DAY)
    for opening, closing in _SESSIONS:
        if first == _minutes(opening) + step and last == _minutes(closing):
            return f"from {_clock(first)} to {_clock(last)}, as the ends of a session from {opening} to {closing}"
    return None


def starts(times: Int64, step: int) -> Int64:
    """Starts of the bars, `step` ns long, that end at `times` [N] or a moment after: wall-clock ns [N].

    Days, weeks and months begin at midnight, on Monday, and on the first.
    """
    inside = times - 1
    if step >= MONTH:
        months = (inside // DAY).astype("datetime64[D]").astype("datetime64[M]")
        return months.astype("datetime64[ns]").astype(np.int64)
    if step >= DAY:
        anchor = MONDAY if step % WEEK == 0 else 0
        step = WEEK if step % WEEK == 0 else DAY
        return (inside - anchor) // step * step + anchor
    left = -times % step
    early = (left > 0) & (left <= _breath(step))  # 03:59 and 03:59:59.999 both end at 04:00
    return times + np.where(early, left, 0) - step


def _breath(step: int) -> int:
    """How long before the end of its bar a timestamp may lie and still mark that end."""
    return min(MINUTE, step // 4)


def _common(values: Int64) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()]) if counts.max() * 2 > len(values) else -1


def _minutes(text: str) -> int:
    return int(text[:2]) * HOUR + int(text[3:]) * MINUTE


def _clock(time: int | np.int64) -> str:
    text = str(np.datetime64(int(time) % DAY, "ns").astype("datetime64[s]"))[11:]
    return text.removesuffix(":00")
