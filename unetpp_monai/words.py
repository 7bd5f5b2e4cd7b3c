"""Numbers, lengths of time and file names in words for people."""


def printable(text: str) -> str:
    r"""Return a text as one line; bytes of a file name that are not UTF-8 are escaped.

    Args:
        text: any.

    Example:
        >>> printable("two\nlines, \udcff")
        'two lines, \\udcff'
    """
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def counted(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural where it belongs.

    Args:
        count: how many.
        noun: in the singular; its plural ends in s.

    Example:
        >>> counted(1, "step"), counted(0, "step"), counted(2, "step")
        ('1 step', '0 steps', '2 steps')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def done_before(done: int, total: int) -> str:
    """Say how many cases had been done before.

    Args:
        done: how many.
        total: of all cases.

    Example:
        >>> done_before(1, 2)
        '1 of 2 cases was done before and is left as it is'
    """
    left = "was done before and is left as it is" if done == 1 else "were done before and are left as they are"
    return f"{done} of {counted(total, 'case')} {left}"


def exact_time(seconds: float) -> str:
    """Return a length of time, not rounded, in the largest whole unit.

    Args:
        seconds: of it.

    Example:
        >>> exact_time(120), exact_time(90), exact_time(7200)
        ('2 min', '90 s', '2 h')
    """
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds and not seconds % size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
