"""The spool: appended whole or not at all, read back in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.journal.spool import Place, Spool, SpoolRecord

RECORDS = st.lists(
    st.builds(
        lambda header, parts: SpoolRecord(header=header, parts=tuple(parts)),
        st.dictionaries(st.text(max_size=5).filter(lambda key: key != "parts"), st.text(max_size=10), max_size=3),
        st.lists(st.binary(max_size=200), max_size=3),
    ),
    max_size=6,
)


def opened(folder: Path, **changes: int) -> Spool:
    spool = Spool(folder, **changes)
    spool.begin_after(0)
    return spool


def all_of(spool: Spool) -> list[SpoolRecord]:
    return [record for segment in spool.segments() for _, record in spool.scan(segment) if record is not None]


def damaged(spool: Spool, segment: int) -> list[Place]:
    return [place for place, record in spool.scan(segment) if record is None]


@given(records=RECORDS, segment_bytes=st.sampled_from([1, 300, 10_000]))
@settings(max_examples=50, deadline=None)
def test_what_is_appended_comes_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, records: list[SpoolRecord], segment_bytes: int
) -> None:
    spool = opened(tmp_path_factory.mktemp("spool"), segment_bytes=segment_bytes)
    places = [spool.append(record) for record in records]
    spool.close()
    assert all_of(spool) == records
    assert [spool.read(place) for place in places] == records
    assert not any(damaged(spool, segment) for segment in spool.segments())


@given(cut=st.integers(min_value=0, max_value=400), flips=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_torn_end_costs_only_the_record_that_was_torn(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: bool
) -> None:
    spool = opened(tmp_path_factory.mktemp("spool"))
    records = [SpoolRecord(header={"n": number}, parts=(b"x" * 50,)) for number in range(5)]
    places = [spool.append(record) for record in records]
    spool.close()
    path = spool.path(1)
    data = path.read_bytes()
    at = max(0, len(data) - cut)
    path.write_bytes(data[:at] + (b"\0" * (len(data) - at) if flips else b""))
    num_whole = sum(place.end <= at for place in places)
    assert all_of(spool) == records[:num_whole]
    size = path.stat().st_size
    begin_of_first = places[0].start if at >= places[0].start else 0
    begin = places[num_whole - 1].end if num_whole else begin_of_first
    assert damaged(spool, 1) == ([Place(1, begin, size)] if size > begin else [])


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_damaged_costs_the_records_that_it_is_in_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    spool = opened(tmp_path_factory.mktemp("spool"))
    records = [SpoolRecord(header={"n": number}, parts=(b'{"' * number, b"\0" * 30)) for number in range(5)]
    places = [spool.append(record) for record in records]
    spool.close()
    path = spool.path(1)
    content = bytearray(path.read_bytes())
    begin = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(begin + 1, min(len(content), begin + 60)))
    content[begin:end] = bytes(byte ^ 0x55 for byte in content[begin:end])
    path.write_bytes(content)
    whole = [record for record, place in zip(records, places, strict=True) if place.end <= begin or place.start >= end]
    assert all_of(spool) == whole
    assert damaged(spool, 1)


def test_numbers_of_segments_are_never_used_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert first.append(SpoolRecord(header={"n": 1})).segment == 1
    first.close()
    second = opened(tmp_path)
    assert second.append(SpoolRecord(header={"n": 2})).segment == 2
    second.close()
    third = Spool(tmp_path)
    third.begin_after(7)
    place = third.append(SpoolRecord(header={"n": 3}))
    third.close()
    assert place.segment == 8
    assert third.path(8).stat().st_mode & 0o777 == 0o600


def test_a_place_that_is_damaged_says_so(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    place = spool.append(SpoolRecord(header={"n": 1}, parts=(b"abc",)))
    spool.close()
    with pytest.raises(ValueError, match="damaged at byte"):
        spool.read(Place(place.segment, place.start + 1, place.end))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from metaclaw.journal.spool import Spool, SpoolRecord
spool = Spool(Path(sys.argv[1]))
spool.begin_after(0)
spool.append(SpoolRecord(header={"n": 0}, parts=(b"x" * 1000,)))
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
for n in (1, 2):
    try:
        spool.append(SpoolRecord(header={"n": n}, parts=(b"x" * 1000,)))
    except OSError:
        print("full")
print(len([place for place, record in spool.scan(1) if record is None]))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append(SpoolRecord(header={"n": 3}, parts=(b"y" * 1000,)))
"""


def test_a_full_disk_leaves_no_piece_behind_and_the_next_append_works(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert child.stdout.split() == ["full", "full", "0"]
    assert [record.header["n"] for record in all_of(Spool(tmp_path))] == [0, 3]
