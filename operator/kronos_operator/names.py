"""Every name that has to be the same in two places: of the API, of children, of environment variables and mounts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kronos_trainer.config import StageName

GROUP = "kronos.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "KronosModel"
PLURAL = "kronosmodels"
SINGULAR = "kronosmodel"
SHORT_NAME = "km"
CATEGORY = "ml"

# Leaves room for "-pred-", eight digits of hash, the attempt and the suffixes of pods, whose limit is 63.
MODEL_NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
MODEL_NAME_LENGTH = 34

MODEL_LABEL = f"{GROUP}/model"
RUN_LABEL = f"{GROUP}/run"
STAGE_LABEL = f"{GROUP}/stage"
ATTEMPT_LABEL = f"{GROUP}/attempt"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "kronos-operator"
COMMAND_LABEL = f"{GROUP}/command"  # of pods that carry out a command of a user
COMMAND_LINE = "kronos"  # by which those are managed
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"  # Kueue's: the queue that a workload waits in
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"  # Kueue's, of its Workloads: the workload that one is for

RETRAIN_ANNOTATION = f"{GROUP}/retrain-requested-at"
CANCEL_ANNOTATION = f"{GROUP}/cancel-requested-at"
PROMOTE_ANNOTATION = f"{GROUP}/promote"
ROLLBACK_ANNOTATION = f"{GROUP}/rollback"

# Labels and environment variables that a pod template may not set, because the operator or the Job controller does.
RESERVED_LABEL_PREFIXES = (f"{GROUP}/", "batch.kubernetes.io/")
RESERVED_ENV_PREFIXES = ("PET_", "MASTER_", "KRONOS_")
RESERVED_ENV = ("RANK", "WORLD_SIZE")

DATA_PATH_ENV = "KRONOS_DATA_PATH"
OUTPUT_PATH_ENV = "KRONOS_OUTPUT_PATH"
COMET_API_KEY_ENV = "COMET_API_KEY"
COMET_WORKSPACE_ENV = "COMET_WORKSPACE"
HUB_TOKEN_ENV = "HF_TOKEN"

# Where the chart publishes what users' commands have to know, by the names of an installation as documented.
CLIENT_NAMESPACE = "kronos-system"
CLIENT_CONFIG_MAP = "kronos-operator-client"
CLIENT_IMAGE_KEY = "trainerImage"

RUN_CONFIG_MOUNT = "/etc/kronos"
RUN_CONFIG_FILE = "run.json"
BARS_MOUNT = "/mnt/bars"
STORAGE_MOUNT = "/mnt/storage"
SHARED_MEMORY_MOUNT = "/dev/shm"
SCRATCH_MOUNT = "/tmp"
FROZEN_FILE = "frozen.json"  # in the ConfigMap of a run
MASTER_PORT = 29500  # torchrun's own default


def child_name(model: str, stage: StageName, stage_hash: str, attempt: int) -> str:
    """Name that all objects of one attempt share."""
    return f"{model}-{stage.short}-{stage_hash[:8]}-{attempt}"


def is_attempt_name(name: str, labels: Mapping[str, str]) -> bool:
    """Whether this is the name, with any hash, of the attempt whose labels these are."""
    try:
        model, stage, attempt = labels[MODEL_LABEL], StageName(labels[STAGE_LABEL]), int(labels[ATTEMPT_LABEL])
    except (KeyError, ValueError):
        return False
    start, end = f"{model}-{stage.short}-", f"-{attempt}"
    middle = name.removeprefix(start).removesuffix(end)
    return name == start + middle + end and re.fullmatch("[0-9a-f]{8}", middle) is not None


def command_name(model: str, command: str, digest: str) -> str:
    """Name of what is made for one request of a command; `digest` is of the request, in hex."""
    return f"{model}-{command}-{digest[:8]}"


def is_command_name(name: str, labels: Mapping[str, str]) -> bool:
    """Whether this is the name, for any request, of the command whose labels these are."""
    model, command = labels.get(MODEL_LABEL, ""), labels.get(COMMAND_LABEL, "")
    return bool(model and command) and re.fullmatch(f"{model}-{command}-[0-9a-f]{{8}}", name) is not None


def run_config_map_name(model: str, run: str) -> str:
    """Name of the ConfigMap in which a run's training part is frozen."""
    return f"{model}-{run}"
