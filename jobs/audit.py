"""An audit of what somebody else made, as one job: `python jobs/audit.py --config FILE --images FOLDER`.

Also `ray job submit --working-dir . -- python jobs/audit.py …`. Options are those of `raydistill audit`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if __name__ == "__main__":
    from raydistill.cli import app

    app(["audit", *sys.argv[1:]])
