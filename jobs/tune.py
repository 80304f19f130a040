"""The search for the filter's settings alone, on an existing run folder: `python jobs/tune.py --run-dir RUN`.

Also `ray job submit --working-dir . -- python jobs/tune.py --run-dir RUN`. Options are those of `raydistill tune`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from raydistill.cli import app

    app(["tune", *sys.argv[1:]])
