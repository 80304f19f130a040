"""The released data set: which samples leave, and in which form."""

import json

import pyarrow as pa

from raydistill.stages.images import keep_rows

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
RELEASED = pa.schema(
    [
        pa.field("image", IMAGE),
        pa.field("sample_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("view", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("age_band", pa.string()),
    ]
)
"""The released data set. Seeds stay inside, and can't be derived (`stages.sample.ReleasedSample`): with the student
they would give back the samples that were dropped.
Fields are nullable because `datasets` takes its features for those that equal its own, which are."""

STRING = {"dtype": "string", "_type": "Value"}
FEATURES = dict.fromkeys(RELEASED.names, STRING) | {"image": {"_type": "Image"}, "labels": [STRING]}
"""What `datasets` reads from a Parquet file's metadata; a list in brackets is understood by every version."""


def released_samples(samples: pa.Table, verdicts: pa.Table) -> pa.Table:
    """Return the samples that the filter keeps, in the form that leaves.

    Args:
        samples: columns.SAMPLES.
        verdicts: columns.VERDICTS; a sample without one isn't released.

    Returns:
        `RELEASED`, with the features that `datasets` reads in its metadata.
    """
    samples = keep_rows(verdicts, samples, "sample_id")
    pairs = zip(samples["image"].to_pylist(), samples["sample_id"].to_pylist(), strict=True)
    images = pa.array([{"bytes": image, "path": f"{sample_id}.png"} for image, sample_id in pairs], IMAGE)
    columns = {name: images if name == "image" else samples[name] for name in RELEASED.names}
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pa.table(columns, schema=RELEASED.with_metadata(metadata))
