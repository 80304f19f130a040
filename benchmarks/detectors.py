"""The self-test of a finished run, with baselines beside the filter: what each finds, and what it takes for a copy.

    python benchmarks/detectors.py RUN

RUN's self-test planted copies of train images and treated strangers the same way. The filter judges at its own
operating point, and at stricter ones. Measures alone (structure, raw distance, SSIM, the network) are set to flag 5 %
of calibration images. Two rules of others are set as they set them: the 95th percentile of train images' correlation
with strangers (Dar et al., arXiv 2402.01054; EchoNet-Synthetic), and a verification network's threshold of one half,
the score from which a pair is rather of one patient than not (Packhaeuser et al. 2022; CheXGenBench, arXiv 2505.10496).
Prints Markdown, and as the last line one JSON object.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from raydistill.core.config import FilterConfig
from raydistill.core.store import Store
from raydistill.data.images import decode_batch
from raydistill.matching.calibration import quantile_threshold
from raydistill.matching.near_copy import StructureIndex
from raydistill.matching.policy import judged, make_policy, policy_at
from raydistill.matching.thumbnails import unit
from raydistill.metrics.intervals import clustered_rate
from raydistill.reid.embedder import load_embedder
from raydistill.stages.images import pixels

FALSE_FLAGS, CONFIDENCE, MAX_SHIFT = 0.05, 0.95, 2
STRICTER = (0.02, 0.01)
"""FPIRs of the filter's network, beside the policy's own; or the smallest that calibration patients support."""

EVIDENCE = (
    "reid_auditor", "strangers", "selftest", "student_matches", "student_attack", "attack_matches", "shadow",
    "real_evaluation", "teacher_evaluation", "filtered_evaluation", "student_evaluation", "simple_rules",
    "decision",
)  # fmt: skip
"""Nodes that measure; filter, search, training and sampling would be there without them. The auditor's part of
matching the teacher's samples isn't counted."""

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


def correlation(queries: Grey, gallery: Grey) -> Floats:
    """Largest correlation of pixels, (N,)."""
    flat = [unit(images.reshape(len(images), -1).astype(np.float32)) for images in (queries, gallery)]
    return np.asarray((flat[0] @ flat[1].T).max(axis=1))


def even_threshold(genuine: Floats, impostor: Floats) -> float:
    """Return the score from which a pair is rather genuine than not, both kinds being equally likely."""
    scores = np.concatenate([genuine, impostor])
    truth = np.repeat([1, 0], [len(genuine), len(impostor)])
    model = LogisticRegression(class_weight="balanced", C=1e6).fit(scores[:, None], truth)
    return float(-model.intercept_[0] / model.coef_[0, 0])


class Run:
    """What a finished run left: its pictures, and the filter's network."""

    def __init__(self, run: Store) -> None:
        self.nodes = run.read_json("summary.json")["nodes"]
        self.keys = {node: about["key"] for node, about in self.nodes.items()}
        self.run = run
        self.planted = (self.of("selftest") / "planted").read_table()
        self.queries = decode_batch(self.planted["image"].to_pylist())
        self.images, self.patients = {}, {}
        for role in ("train", "calibration", "probe"):
            table = (self.of("ingest") / role).read_table(columns=["image", "patient_id"])
            self.images[role], self.patients[role] = pixels(table), table["patient_id"].to_numpy()

    def evidence_share(self) -> float:
        """Return the share of the run's time that went into evidence: what a run without it wouldn't do."""
        seconds = {name: about["seconds"] or 0.0 for name, about in self.nodes.items()}
        return sum(seconds.get(name, 0.0) for name in EVIDENCE) / sum(seconds.values())

    def of(self, node: str) -> Store:
        """Return a node's artifact."""
        return self.run / node / self.keys[node]

    def half(self) -> float:
        """Return the threshold of one half of the filter's network, from probes and calibration images."""
        network = load_embedder((self.of("reid_filter") / "network").keep_local(), "cpu")
        vectors = {role: network.embed(images, 64) for role, images in self.images.items()}
        own = self.patients["probe"][:, None] == self.patients["train"]
        genuine = (vectors["probe"] @ vectors["train"].T)[own]
        return even_threshold(genuine, (vectors["calibration"] @ vectors["train"].T).ravel())

    def stricter(self) -> dict[str, NDArray[np.bool_]]:
        """Return what the filter would flag if it took fewer strangers for somebody; near-copies are as they are."""
        near_copy_fpir = self.of("tune").read_json("policy/policy.json")["near_copy_fpir"]
        strangers = (self.of("teacher_matches") / "filter" / "calibration").read_table()
        found = {}
        for rate in STRICTER:
            policy = make_policy(FilterConfig(), policy_at(strangers, rate, near_copy_fpir, CONFIDENCE))
            keep = judged(policy, self.planted)["keep"].to_numpy(zero_copy_only=False)
            found[f"the same, identity at an FPIR of {100 * rate:g} %"] = ~keep
        return found

    def flags(self) -> dict[str, NDArray[np.bool_]]:
        """Return what each detector flags of the planted pictures."""
        gallery, strangers = self.images["train"], self.images["calibration"]
        index = StructureIndex.of(gallery, MAX_SHIFT)
        eye = (self.of("teacher_matches") / "filter" / "calibration").read_table(columns=["score"])["score"].to_numpy()
        scores = {
            "structure": [index.search(images)[0] for images in (self.queries, strangers)],
            "raw L2": [raw(images, gallery) for images in (self.queries, strangers)],
            "SSIM": [ssim(images, gallery) for images in (self.queries, strangers)],
            "re-ID network": [self.planted["score"].to_numpy(), eye],
        }
        verdicts = (self.of("verdicts") / "planted").read_table().sort_by("sample_id")
        order = np.argsort(self.planted["query_id"].to_numpy().astype(str), kind="stable")
        ours = np.empty(len(order), bool)
        ours[order] = ~verdicts["keep"].to_numpy(zero_copy_only=False)
        found = {"**the filter**": ours} | self.stricter()
        for name, (queries, others) in scores.items():
            found[name] = queries >= quantile_threshold(others.astype(np.float32), FALSE_FLAGS)
        rule = np.quantile(correlation(gallery, strangers), 0.95)
        found["95th percentile of correlation"] = correlation(self.queries, gallery) >= rule
        found["pair threshold of one half"] = self.planted["score"].to_numpy() >= self.half()
        return found


def table_of(store: Store) -> dict[str, Any]:
    """Print a run's table; return its figures."""
    torch.set_num_threads(1)
    run = Run(store)
    roles, treatments, patients = (run.planted[name].to_numpy() for name in ("source_role", "treatment", "patient_id"))
    shows = run.planted["is_copy"].to_numpy(zero_copy_only=False)
    flags, figures = run.flags(), {}
    print(
        f"\n{store.uri}: share of planted pictures found (all: those that still show the patient), and of strangers\n"
        "treated the same way that are flagged\n"
    )
    kinds = [*sorted(set(treatments)), "all"]
    print(f"| detector | {' | '.join(kinds)} | false flags |\n|---|{'---|' * (len(kinds) + 1)}")
    for name, flagged in flags.items():
        said = []
        for kind in kinds:
            rows = (roles == "train") & (treatments == kind if kind != "all" else shows)
            said.append(f"{flagged[rows].mean():.2f}")
        caught, wrong = (
            clustered_rate(flagged[rows], patients[rows], CONFIDENCE)
            for rows in ((roles == "train") & shows, roles == "calibration")
        )
        assert caught.interval is not None
        assert wrong.interval is not None
        print(
            f"| {name} | {' | '.join(said)} | {wrong.value:.3f} ({wrong.interval[0]:.3f} to {wrong.interval[1]:.3f}) |"
        )
        figures[name] = {
            "sensitivity": round(caught.value or 0.0, 4),
            "sensitivity_low": round(caught.interval[0], 4),
            "false_flag_rate": round(wrong.value or 0.0, 4),
        }
    print(f"\nthe evidence took {run.evidence_share():.0%} of the run's time")
    metrics = (run.of("verdicts")).read_json("metrics.json")["selftest"]
    ours = figures.pop("**the filter**")
    return {
        **ours,
        "consistency_jaccard": round(metrics["consistency_jaccard"]["value"], 4),
        "others": figures,
        "evidence_share": round(run.evidence_share(), 3),
    }


if __name__ == "__main__":
    print(json.dumps(table_of(Store.open(sys.argv[1]))))
