"""How limits are put into words: a number that is printed never claims more than the number is."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext


def upwards(value: float, spec: str) -> str:
    """An upper limit by a format such as ".4f", ".3g" or ".1e", rounded up at its last digit.

    What lies beyond 12 digits is taken for the rounding of floats.

    >>> upwards(1 / 27, ".3g"), upwards(0.05, ".4f"), upwards(0.00012, ".0e")
    ('0.0371', '0.0500', '2e-04')
    """
    number = Decimal(f"{value:.12g}")
    with localcontext() as context:
        context.rounding = ROUND_CEILING
        rounded = float(format(number, spec))
    return f"{rounded:{spec}}"


def percent(rate: float) -> str:
    """A rate that was measured, rounded to the nearest."""
    return f"{100 * rate:.3g} %"


def percent_up(rate: float) -> str:
    """A rate that is an upper limit, rounded up.

    >>> percent_up(1 / 27), percent_up(0.05), percent(1 / 27)
    ('3.71 %', '5 %', '3.7 %')
    """
    return f"{upwards(100 * rate, '.3g')} %"


def confidence(delta: float) -> str:
    """The confidence 1 − delta, rounded down; delta keeps three digits.

    >>> confidence(0.1), confidence(0.0004), confidence(1e-9)
    ('90 %', '99.96 %', '99.9999999 %')
    """
    return f"{100 - Decimal(upwards(100 * delta, '.3g')):f} %"


def weaker_than(text: str, *, asked: float, needed: int, units: str) -> str:
    """Put before a promise that it is not the rate asked for, which needs so many ``units``.

    >>> weaker_than("at most 10 %.", asked=0.01, needed=99, units="good parts")
    'weaker than the 1 % asked for, which needs 99 good parts: at most 10 %.'
    """
    return f"weaker than the {percent(asked)} asked for, which needs {needed} {units}: {text}"


def sentence(text: str) -> str:
    """The text with a capital letter."""
    return text[0].upper() + text[1:]
