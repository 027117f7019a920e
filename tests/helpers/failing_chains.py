"""What may go wrong in a chain's process; light to import there."""

import os


def fail_second(task, report):
    report(task)
    if task == 2:
        raise ValueError("the second will not do")
    return task


def die(task, report):
    os._exit(1)
