"""Which of PEFT's adapters are served, by their adapter_config.json.

Owns the settings under which an adapter is plain LoRA; refuses to know tensors. Invariant: what cannot be served
exactly as PEFT would is refused, never approximated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from metaclaw.errors import CheckpointError

# Settings of adapter_config.json that change the forward pass, and the only values under which it is plain LoRA.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None,),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
}


def read_config(files: Mapping[str, bytes], *, origin: str) -> dict[str, Any]:
    """The content of adapter_config.json. Raises ``CheckpointError``, whose text begins with ``origin``."""
    try:
        config: dict[str, Any] = dict(json.loads(files["adapter_config.json"]))
        float(config["lora_alpha"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{origin} has no readable adapter_config.json: {error!r}") from error
    for key, values in _PLAIN.items():
        if config.get(key, values[0]) not in values:
            raise CheckpointError(f"{origin}: {key} = {config[key]!r} is not served; use plain LoRA")
    return config
