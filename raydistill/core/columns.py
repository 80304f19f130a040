"""Names and Arrow schemas of every table that one stage writes and another reads.

A column that isn't named here doesn't cross a stage border.
"""

import pyarrow as pa

ROLES = ("train", "probe", "calibration", "evaluation")
"""The four roles of DESIGN section 2: `train` is the gallery; `probe` shares its patients; the others share none."""

RECORDS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("study_index", pa.int32(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("view", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("age", pa.float32()),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
"""Real images, one folder a role. `image` is PNG, 8-bit grey, square at `ingest.resolution`; `patient_id` and
`image_id` are as in the source (they never leave the run folder); `sha256` is of the source's encoded bytes. Empty
`labels` are "no finding"; null is "not known"."""

QUARANTINE = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""Rows of the source that could not be used, by row number in the source, with a reason from a short list."""

REQUESTS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("view", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("age_band", pa.string()),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("guidance_scale", pa.float32()),
        pa.field("num_inference_steps", pa.int32()),
    ]
)
"""What is asked of a model: one row a sample, planned before any sampling. Null is "not said", and of the last two "as
usual": there is something where samples take turns in several ways."""

SAMPLES = pa.schema([*REQUESTS, pa.field("image", pa.binary()), pa.field("failure", pa.string())])
"""Synthetic images. `image` is PNG, 8-bit grey; null with the reason in `failure` where generation failed."""

EMBEDDINGS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Real images as vectors (D,), of unit length: an eye's embeddings, or the templates of the near-copy measure."""

MATCHES = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("query_patient_id", pa.string()),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("nearest_image_id", pa.string(), nullable=False),
        pa.field("nearest_patient_id", pa.string(), nullable=False),
        pa.field("neighbour_scores", pa.list_(pa.float32()), nullable=False),
        pa.field("neighbour_image_ids", pa.list_(pa.string()), nullable=False),
        pa.field("structure_score", pa.float32(), nullable=False),
        pa.field("structure_image_id", pa.string(), nullable=False),
        pa.field("matched_scores", pa.list_(pa.float32())),
        pa.field("unseen_matched_scores", pa.list_(pa.float32())),
        pa.field("matched_patient_ids", pa.list_(pa.string())),
        pa.field("unseen_matched_patient_ids", pa.list_(pa.string())),
        pa.field("unseen_score", pa.float32()),
        pa.field("unseen_patient_id", pa.string()),
        pa.field("unseen_structure_score", pa.float32()),
    ]
)
"""One query (a sample, or a real image) against the whole gallery, threshold-free.

`score` is the maximum cosine similarity over the gallery of one embedder, in [-1, 1]; `neighbour_*` the top k;
`structure_score` the maximum of the near-copy measure, in [-1, 1], and the gallery image it belongs to;
`unseen_*` the same maxima over an unseen gallery (evaluation patients); `matched_scores` and `unseen_matched_scores`
the maxima over random parts of the two galleries that, pair by pair, have equally many patients and equally many images
of each, and `matched_patient_ids` and `unseen_matched_patient_ids` whose the maximum over each of the parts is.
Null where they were not asked for.
`query_patient_id` is null for samples."""

JUDGED = ("query_id", "score", "nearest_image_id", "nearest_patient_id", "structure_score", "structure_image_id")
"""What a filter's policy may read of samples, real queries and planted pictures alike. Null where no image was made."""

AUDITED = (
    "query_id", "score", "structure_score", "nearest_image_id", "nearest_patient_id",
    "unseen_score", "unseen_patient_id", "unseen_structure_score", "matched_scores", "unseen_matched_scores",
    "matched_patient_ids", "unseen_matched_patient_ids",
)  # fmt: skip
"""What an audit reads of samples: every number of it can be recomputed from these and from the matches of strangers."""

VERDICTS = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("structure_score", pa.float32()),
    ]
)
"""One row a sample. `reason` is `kept`, `identity`, `near_copy`, `identity+near_copy` or `failed`; somebody's own
policy has its own reasons to drop."""
