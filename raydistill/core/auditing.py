"""The configuration of an audit of what somebody else made: a model, or images. Nothing is trained for it."""

from pydantic import Field, model_validator

from raydistill.core.section import Section


class AuditedConfig(Section):
    """What is audited against a cohort whose roles say whom it may have been learned from."""

    images: str | None = Field(
        None,
        min_length=1,
        description="Folder of image files, or of Parquet files with a column `image` and maybe `prompt`; path or URI.",
    )
    model: str | None = Field(
        None, min_length=1, description="Stable Diffusion folder, or hub id[@revision], with safetensors weights."
    )
    local_files_only: bool = True
    network: str | None = Field(
        None,
        min_length=1,
        description="Folder of a re-identification network, such as RUN/reid_auditor/KEY/network: one that saw no "
        "calibration or evaluation patient. By default eyes.auditor as it is before any training.",
    )

    @model_validator(mode="after")
    def _one(self) -> "AuditedConfig":
        if bool(self.images) == bool(self.model):
            raise ValueError("name what is audited: either images or a model")
        return self
