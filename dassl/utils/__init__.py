from dassl.utils.logger import Logger, setup_logger
from dassl.utils.meters import AverageMeter, MetricMeter
from dassl.utils.registry import Registry, check_availability
from dassl.utils.tools import (
    UserError,
    check_isfile,
    collect_env_info,
    deterministic,
    download_url,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    set_random_seed,
    tolist_if_not,
    unreadable,
    write_json,
)
from dassl.utils.torchtools import (
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    resume_from_checkpoint,
    save_checkpoint,
)

__all__ = [
    "AverageMeter",
    "Logger",
    "MetricMeter",
    "Registry",
    "UserError",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "count_num_param",
    "deterministic",
    "download_url",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "read_image",
    "read_json",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "setup_logger",
    "tolist_if_not",
    "unreadable",
    "write_json",
]
