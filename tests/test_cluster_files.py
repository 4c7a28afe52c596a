"""What `ray up` is given, against Ray's own schema; no network and no account is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parent.parent / "cluster"


def _prepared(name: str) -> dict[str, Any]:
    config = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    prepared: dict[str, Any] = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_ray_takes_the_aws_cluster() -> None:
    config = _prepared("aws.yaml")
    head = config["available_node_types"][config["head_node_type"]]
    worker = config["available_node_types"]["worker"]
    assert head["resources"] == {"CPU": 0}
    assert worker["min_workers"] == worker["max_workers"] == config["max_workers"]
    assert worker["node_config"]["IamInstanceProfile"] == head["node_config"]["IamInstanceProfile"]
    assert worker["node_config"]["InstanceType"] != head["node_config"]["InstanceType"]


@pytest.mark.parametrize("name", ["aws.yaml", "cluster.yaml"])
def test_ray_is_started_with_a_token_and_a_dashboard_that_others_cannot_reach(name: str) -> None:
    config = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert "RAY_health_check_period_ms=1000" in head
    assert not [line for line in (*config["setup_commands"], head, worker) if " #" in line]
