"""Names and paths of checkpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.errors import InvalidRequestError
from metaclaw.training.api.records import CheckpointPath, checkpoint_name, parse_path

BAD_NAMES = ["", ".", "..", "a/b", "../a", ".hidden", "a..b", "a\\b", "a\n", "é", "a" * 129, "a b"]
BAD_NAMES += ["a" * 300, "a\0", "%2e%2e", "%2e%2e%2f", "-rf", "a:b", "ａ", "..%00"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_leave_its_folder_is_refused(name):
    """PITFALLS S2: a model-written name used as a path wrote files anywhere."""
    with pytest.raises(InvalidRequestError, match="not valid"):
        checkpoint_name(name)


@given(st.from_regex(r"[A-Za-z0-9_@][A-Za-z0-9_@-]{0,127}", fullmatch=True))
def test_a_path_reads_as_it_was_written(name):
    path = CheckpointPath(model_id="abc:train:0", kind="weights", name=name)
    assert parse_path(str(path)) == path


@pytest.mark.parametrize(
    "value", ["main@3", "tinker://a/b", "tinker://a/weights/b/c", "tinker://a/external/b", "tinker://a/weights/.."]
)
def test_another_form_of_path_is_refused_with_the_right_one(value):
    with pytest.raises(InvalidRequestError):
        parse_path(value)
