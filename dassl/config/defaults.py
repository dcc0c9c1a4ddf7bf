"""Every key that the engine knows, with its default. Trainers add their own nodes under TRAINER."""

_TRAIN_LOADER = {
    "SAMPLER": "RandomSampler",
    "BATCH_SIZE": 32,
    "N_DOMAIN": 0,  # domains per batch (RandomDomainSampler); 0 = all
    "N_INS": 16,  # images per class in a batch (RandomClassSampler)
    "DROP_LAST": False,  # True: drop the last incomplete batch of an epoch, as upstream Dassl always does
}

DEFAULTS = {
    "VERSION": 1,
    "OUTPUT_DIR": "./output",
    "RESUME": "",  # folder of an earlier run to continue; OUTPUT_DIR itself is always looked at
    "EVAL_ONLY": False,  # True: a test only (train.py --eval-only): what only training needs is not made
    "SEED": -1,  # negative: not seeded
    "USE_CUDA": True,
    "VERBOSE": True,
    "LOG": {
        "WANDB": False,  # True: curves to Weights & Biases too (pip install wandb), under the account of `wandb login`
        "WANDB_PROJECT": "craft",
    },
    "INPUT": {
        "SIZE": (224, 224),  # height, width
        "INTERPOLATION": "bilinear",
        "TRANSFORMS": (),
        "NO_TRANSFORM": False,
        "PIXEL_MEAN": [0.485, 0.456, 0.406],
        "PIXEL_STD": [0.229, 0.224, 0.225],
        "CROP_PADDING": 4,
        "RRCROP_SCALE": (0.08, 1.0),
        "CUTOUT_N": 1,
        "CUTOUT_LEN": 16,
        "GN_MEAN": 0.0,
        "GN_STD": 0.15,
        "RANDAUGMENT_N": 2,
        "RANDAUGMENT_M": 10,
        "COLORJITTER_B": 0.4,
        "COLORJITTER_C": 0.4,
        "COLORJITTER_S": 0.4,
        "COLORJITTER_H": 0.1,
        "RGS_P": 0.2,
        "GB_P": 0.5,
        "GB_K": 21,
        "TRANSPARENCY": "drop",  # drop: the colours as stored, as published; white: put on white
        "UPRIGHT": False,  # True: photos are turned as EXIF says; False: as stored, as published
        "DRAFT": False,  # True: JPEGs are decoded at a fraction (1/2, 1/4, 1/8) not below SIZE: faster, not to the bit
    },
    "DATASET": {
        "ROOT": "",
        "NAME": "",
        "SOURCE_DOMAINS": (),
        "TARGET_DOMAINS": (),
        "NUM_LABELED": -1,  # this key, VAL_PERCENT and ALL_AS_UNLABELED are for data sets written for upstream Dassl
        "NUM_SHOTS": -1,
        "VAL_PERCENT": 0.1,
        "ALL_AS_UNLABELED": False,
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,
        "K_TRANSFORMS": 1,
        "RETURN_IMG0": False,
        "PERSISTENT_WORKERS": False,  # True: training workers live on between epochs: faster epochs, but a resumed run draws other augmentations
        "TRAIN_X": dict(_TRAIN_LOADER),
        "TRAIN_U": {"SAME_AS_X": True, **_TRAIN_LOADER},
        "TEST": {"SAMPLER": "SequentialSampler", "BATCH_SIZE": 32},
    },
    "MODEL": {
        "INIT_WEIGHTS": "",
        "BACKBONE": {"NAME": "", "PRETRAINED": True},
        "HEAD": {"NAME": "", "HIDDEN_LAYERS": (), "ACTIVATION": "relu", "BN": True, "DROPOUT": 0.0},
    },
    "OPTIM": {
        "NAME": "adam",
        "LR": 3e-4,
        "WEIGHT_DECAY": 5e-4,
        "MOMENTUM": 0.9,
        "SGD_DAMPNING": 0,
        "SGD_NESTEROV": False,
        "RMSPROP_ALPHA": 0.99,
        "ADAM_BETA1": 0.9,
        "ADAM_BETA2": 0.999,
        "STAGED_LR": False,
        "NEW_LAYERS": (),
        "BASE_LR_MULT": 0.1,
        "LR_SCHEDULER": "single_step",
        "STEPSIZE": (-1,),  # epochs; -1 = MAX_EPOCH
        "GAMMA": 0.1,
        "MAX_EPOCH": 10,
        "WARMUP_EPOCH": -1,
        "WARMUP_TYPE": "linear",
        "WARMUP_CONS_LR": 1e-5,
        "WARMUP_MIN_LR": 1e-5,
        "WARMUP_RECOUNT": True,
    },
    "TRAIN": {
        "CHECKPOINT_FREQ": 0,  # epochs; 0 = only after the last one
        "PRINT_FREQ": 10,  # batches
        "COUNT_ITER": "train_x",  # length of an epoch of TrainerXU: train_x, train_u or smaller_one
    },
    "TEST": {
        "EVALUATOR": "Classification",
        "PER_CLASS_RESULT": False,
        "COMPUTE_CMAT": False,
        "NO_TEST": False,
        "SPLIT": "test",
        "FINAL_MODEL": "last_step",  # or best_val
        "SELECT_BY": "",  # metric by which best_val chooses, e.g. worst_group_accuracy; empty: the first
    },
    "TRAINER": {"NAME": ""},
}
