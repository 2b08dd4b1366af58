"""Train a model: python train.py stage=sft model=tiny-base domain=arithmetic (see --help)."""

from sq.core.entry import main
from sq.train.config import TrainJob

if __name__ == "__main__":
    main("train", TrainJob, __doc__)
