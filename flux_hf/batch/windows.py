"""Windows that slide over a film."""

import math

ROUNDING = 1e-6
"""Of a window, as a share of the stride: durations are quotients of whole numbers."""


def window_times(duration: float, window: float, stride: float) -> list[tuple[float, float]]:
    """Start and end, in seconds, of the windows of a film of `duration` seconds.

    They begin every `stride` seconds, up to the first that reaches the end, where it is cut: a film that is shorter
    than a window has one. `window_times(10, 4, 3)` is (0, 4), (3, 7), (6, 10); of 11 seconds there is (9, 11), too.
    """
    further = max(0.0, duration - window) / stride
    count = math.ceil(further - ROUNDING) + 1
    if (count - 1) * stride >= duration:  # the stride leaves out the end
        count -= 1
    return [(number * stride, min(number * stride + window, duration)) for number in range(count)]
