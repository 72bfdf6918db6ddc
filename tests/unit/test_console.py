"""What is said while working must never end the work."""

import os
import subprocess
import sys


def test_the_work_goes_on_when_the_reader_of_the_log_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "from mtrain.console import say; say('a'); say('b'); print('went on')"
    finished = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=False
    )
    os.close(writer)
    assert finished.stdout == b"went on\n"
