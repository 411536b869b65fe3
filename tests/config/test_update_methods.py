"""Which ways to learn can be set together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from metaclaw.config import OpdSettings, RlSettings, UpdateSettings


def test_methods_are_a_list_or_one_text_and_each_is_named_once():
    assert UpdateSettings.model_validate({"methods": "rewards, opd"}).methods == ("rewards", "opd")
    for wrong, why in (("", "methods is empty"), ("opd,opd", "names one twice"), ("dpo", "dpo|Input should be")):
        with pytest.raises(ValidationError, match=why):
            UpdateSettings.model_validate({"methods": wrong})


def test_distillation_without_a_teacher_is_refused_by_the_settings_that_name_one():
    taught = UpdateSettings(methods=("rewards", "opd"))
    with pytest.raises(ValidationError, match=r"rl\.opd\.model"):
        RlSettings(update=taught)
    assert not taught.waits_for_rewards
    assert UpdateSettings(methods=("rewards", "self_distillation")).waits_for_rewards
    assert RlSettings(update=taught, opd=OpdSettings(model="base")).opd.url == ""
