"""The settings that change a stage's result. Only these are part of its cache key."""

from pydantic import BaseModel, ConfigDict, Field

from infra.settings import Settings
from tasks.core.output.render_plan import RenderOptions
from tasks.engines.hardware import AsrOptions


class SourceOptions(BaseModel):
    """DOWNLOAD: prefer formats of at most `max_fps` frames per second."""

    model_config = ConfigDict(frozen=True)

    max_fps: float


class SpeechOptions(BaseModel):
    """TRANSCRIPT: the speech model, or None for the machine's default, and its beam size."""

    model_config = ConfigDict(frozen=True)

    model: str | None
    beam_size: int

    def on_this_machine(self, settings: Settings) -> AsrOptions:
        """The recogniser's options, with the settings of this machine."""
        return AsrOptions(
            cache=settings.data_dir / "weights",
            model=self.model,
            device=settings.asr_device,
            batch_size=settings.asr_batch_size,
            beam_size=self.beam_size,
        )


class ChoiceOptions(BaseModel):
    """SELECT: the LLM that reranks clips and writes their titles, or None; the model that hears them again, or None."""

    model_config = ConfigDict(frozen=True)

    llm_model: str | None
    llm_api_base: str | None
    second_hearing: SpeechOptions | None = Field(default=None, exclude_if=lambda options: options is None)


class RunOptions(BaseModel):
    """The options of all stages of a run."""

    model_config = ConfigDict(frozen=True)

    source: SourceOptions
    speech: SpeechOptions
    choice: ChoiceOptions
    picture: RenderOptions


def run_options(settings: Settings) -> RunOptions:
    """The options that follow from the settings."""
    width, height = settings.render_size
    return RunOptions(
        source=SourceOptions(max_fps=settings.render_max_fps),
        speech=SpeechOptions(model=settings.asr_model, beam_size=settings.asr_beam_size),
        choice=ChoiceOptions(
            llm_model=settings.llm_model_name,
            llm_api_base=settings.llm_api_base,
            second_hearing=_second_hearing(settings),
        ),
        picture=RenderOptions(
            width=width,
            height=height,
            max_fps=settings.render_max_fps,
            crf=settings.render_crf,
            preset=settings.render_preset,
            encoder=settings.render_encoder,
            parallel=settings.render_parallel,
        ),
    )


def _second_hearing(settings: Settings) -> SpeechOptions | None:
    model = settings.asr_model_final
    return SpeechOptions(model=model, beam_size=settings.asr_beam_size) if model else None
