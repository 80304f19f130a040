"""The whole path as one job: `python jobs/distill.py`, or `ray job submit --working-dir . -- python jobs/distill.py`.

Options are those of `raydistill run`; without `--config` it runs `jobs/demo.yaml`.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

if __name__ == "__main__":
    from raydistill.cli import app

    arguments = sys.argv[1:]
    chosen = any(word in ("-c", "--config") or word.startswith("--config=") for word in arguments)
    app(["run", *([] if chosen else ["--config", str(HERE / "demo.yaml")]), *arguments])
