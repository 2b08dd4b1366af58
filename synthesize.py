"""Make rows with a model: python synthesize.py stage=questions model=tiny (see --help)."""

from sq.core.entry import main
from sq.synth.config import SynthJob

if __name__ == "__main__":
    main("synthesize", SynthJob, __doc__)
