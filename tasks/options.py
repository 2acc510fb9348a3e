"""What of the settings changes a stage's result: these, and nothing else, are part of its cache key."""

from pydantic import BaseModel, ConfigDict

from infra.settings import Settings
from tasks.core.out.render_plan import RenderOptions


class SourceOptions(BaseModel):
    """DOWNLOAD: formats faster than `max_fps` are avoided."""

    model_config = ConfigDict(frozen=True)

    max_fps: float


class SpeechOptions(BaseModel):
    """TRANSCRIPT: which model, and how wide it searches. None is the default of the machine."""

    model_config = ConfigDict(frozen=True)

    model: str | None
    beam_size: int


class ChoiceOptions(BaseModel):
    """SELECT: which LLM has a say."""

    model_config = ConfigDict(frozen=True)

    llm_model: str | None
    llm_api_base: str | None


class StageOptions(BaseModel):
    """The options of a whole run."""

    model_config = ConfigDict(frozen=True)

    source: SourceOptions
    speech: SpeechOptions
    choice: ChoiceOptions
    picture: RenderOptions


def stage_options_of(settings: Settings) -> StageOptions:
    """The options that the settings ask for."""
    width, height = settings.render_size
    return StageOptions(
        source=SourceOptions(max_fps=settings.render_max_fps),
        speech=SpeechOptions(model=settings.asr_model, beam_size=settings.asr_beam_size),
        choice=ChoiceOptions(llm_model=settings.llm_model_name, llm_api_base=settings.llm_api_base),
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
