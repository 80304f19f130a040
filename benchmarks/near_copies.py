"""Which measure finds near-copies: structure, raw distance, SSIM, or the re-identification network?

    python benchmarks/near_copies.py RUN

RUN is a finished run. Its self-test planted copies of train images and treated strangers the same way; each measure
compares all of them with every train image. Prints the share of copies found at 5 % false flags, treatment by
treatment, as Markdown, and as the last line one JSON object.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raydistill.core.store import Store
from raydistill.data.images import decode_batch
from raydistill.matching.calibration import quantile_threshold
from raydistill.matching.near_copy import StructureIndex
from raydistill.metrics.intervals import clustered_rate
from raydistill.stages.images import pixels

FALSE_FLAGS, CONFIDENCE, MAX_SHIFT = 0.05, 0.95, 2
Grey, Floats = NDArray[np.uint8], NDArray[np.float32]


def raw(queries: Grey, gallery: Grey) -> Floats:
    """Minus the least distance of pixels, Euclidean: (N,)."""
    flat = [torch.from_numpy(images.reshape(len(images), -1)).double() for images in (queries, gallery)]
    return -torch.cdist(*flat).min(dim=1).values.numpy().astype(np.float32)


def ssim(queries: Grey, gallery: Grey) -> Floats:
    """Largest SSIM, (N,): Gaussian window of 11 pixels and deviation 1.5, constants for 8 bits.

    Source: Wang, Bovik, Sheikh, Simoncelli, Image Quality Assessment, IEEE TIP 2004.
    """
    line = torch.exp(-((torch.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    line = line / line.sum()

    def blurred(images: torch.Tensor) -> torch.Tensor:
        across = torch.nn.functional.conv2d(images[:, None], line[None, None, None, :])
        return torch.nn.functional.conv2d(across, line[None, None, :, None])[:, 0]

    x, y = (torch.from_numpy(images).float() for images in (queries, gallery))
    (mean_x, mean_y), (square_x, square_y) = (blurred(x), blurred(y)), (blurred(x * x), blurred(y * y))
    spread_x, spread_y = square_x - mean_x**2, square_y - mean_y**2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    best = np.empty(len(x), np.float32)
    for row in range(len(x)):
        together = mean_x[row] * mean_y
        shared = blurred(x[row] * y) - together
        top = (2 * together + c1) * (2 * shared + c2)
        bottom = (mean_x[row] ** 2 + mean_y**2 + c1) * (spread_x[row] + spread_y + c2)
        best[row] = float((top / bottom).mean(dim=(1, 2)).max())
    return best


def main(run: Store) -> dict[str, Any]:
    """Measure, print."""
    torch.set_num_threads(1)
    keys = {node: about["key"] for node, about in run.read_json("summary.json")["nodes"].items()}
    planted = (run / "selftest" / keys["selftest"] / "planted").read_table()
    gallery = pixels((run / "ingest" / keys["ingest"] / "train").read_table(columns=["image"]))
    queries = decode_batch(planted["image"].to_pylist())
    scores = {
        "structure": StructureIndex.of(gallery, MAX_SHIFT).search(queries)[0],
        "raw L2": raw(queries, gallery),
        "SSIM": ssim(queries, gallery),
        "re-ID network": planted["score"].to_numpy(),
    }
    roles, treatments, patients = (planted[name].to_numpy() for name in ("source_role", "treatment", "patient_id"))
    figures: dict[str, dict[str, float]] = {}
    print(f"| treatment | {' | '.join(scores)} |\n|---|{'---|' * len(scores)}")
    for treatment in [*sorted(set(treatments)), "all"]:
        of_it = np.full(len(planted), True) if treatment == "all" else treatments == treatment
        copies, strangers = of_it & (roles == "train"), of_it & (roles == "calibration")
        said = []
        for name, values in scores.items():
            found = values[copies] >= quantile_threshold(values[strangers], FALSE_FLAGS)
            rate = clustered_rate(found, patients[copies], CONFIDENCE, unit="share of planted copies")
            assert rate.value is not None
            assert rate.interval is not None
            said.append(f"{rate.value:.2f} ({rate.interval[0]:.2f} to {rate.interval[1]:.2f})")
            figures.setdefault(name, {})[treatment] = round(rate.value, 4)
        print(f"| {treatment} | {' | '.join(said)} |")
    return figures


if __name__ == "__main__":
    print(json.dumps(main(Store.open(sys.argv[1]))))
