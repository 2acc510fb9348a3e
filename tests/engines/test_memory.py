import sys

import psutil
import pytest

from tasks.engines import memory


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory like this")
def test_freed_memory_goes_back_to_the_system():
    process = psutil.Process()
    pieces = [bytes([1]) * 5000 for _ in range(20_000)]
    kept = pieces[-1]  # at the end of the heap, which therefore stays as large as it is
    del pieces
    before = process.memory_info().rss
    memory.give_back()
    assert len(kept) == 5000
    assert before - process.memory_info().rss > 50e6
