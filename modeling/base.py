"""The common part of our models: a pretrained encoder inside, and how it is wrapped, loaded and read back."""

import math
from collections.abc import Callable
from functools import partial

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, initialization

from .checkpoints import published_fields
from .repository import hub_arguments, refuse_others
from .scoring import ScoreScale


class RankingModelConfig(PreTrainedConfig):
    """A config that holds its encoder's, and the words put before a text of each side, such as "query: "."""

    sub_configs = {"encoder_config": AutoConfig}

    encoder_config: dict | PreTrainedConfig | None = None
    query_prompt: str = ""
    document_prompt: str = ""

    def __post_init__(self, **kwargs):
        """Make the encoder's config of a mapping, as it is in config.json."""
        if isinstance(self.encoder_config, dict):
            self.encoder_config = AutoConfig.for_model(**self.encoder_config)
        super().__post_init__(**kwargs)

    def has_layers(self) -> bool:
        """Tell an encoder in which tokens meet from one that is cut to its embeddings of single tokens."""
        return getattr(self.encoder_config, "num_hidden_layers", None) != 0

    @classmethod
    def field_names(cls) -> list[str]:
        """List the fields that our classes add to those of transformers, `encoder_config` left out."""
        names = RankingModelConfig.__annotations__.keys() | cls.__annotations__.keys()
        return sorted(names - {"encoder_config"})

    def check_choice(self, field: str, *choices: str) -> None:
        """Raise ValueError when a field is none of its choices."""
        value = getattr(self, field)
        if value not in choices:
            *first, last = map(repr, choices)
            raise ValueError(f"{field} must be {', '.join(first)} or {last}, got {value!r}")

    def check_scale(self) -> None:
        """Raise ValueError for a `scale` that scores cannot be multiplied by."""
        is_number = isinstance(self.scale, (int, float)) and not isinstance(self.scale, bool)
        if self.scale is not None and not (is_number and 0 < self.scale < math.inf):
            raise ValueError(f"scale must be a number above 0, got {self.scale!r}")


class RankingModel(PreTrainedModel):
    """A model that scores the documents of queries with a transformer of any architecture, `encoder`.

    `chunk_size` is how many texts are encoded at a time (`run_in_blocks`): a matter of memory only.
    """

    base_model_prefix = "encoder"
    main_input_name = "document_input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # forward returns no loss: Trainer must divide by the accumulation steps itself
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    chunk_size: int | None = None

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Initialise a module whose weights were not in a checkpoint, which are otherwise whatever memory held."""
        super()._init_weights(module)
        if isinstance(module, ScoreScale) and module.weight is not None:
            initialization.zeros_(module.weight)

    @torch.no_grad()
    def reached_scale(self) -> float:
        """Return the factor on all scores as it is now, 1 for a model without."""
        scale = getattr(self, "score_scale", None)
        return 1.0 if scale is None else float(scale(torch.ones(1, device=self.device)))

    @classmethod
    def wrap(cls, encoder: PreTrainedModel, **config_fields) -> "RankingModel":
        """Make a model around a pretrained encoder; `config_fields` are those of the class's config."""
        model = cls(cls.config_class(encoder_config=encoder.config, **config_fields))
        for part in (model.encoder, getattr(model, "document_encoder", None)):
            if part is not None:
                part.load_state_dict(encoder.state_dict())
        return model

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a checkpoint of this class, or a model in one of the layouts that `find_published` knows."""
        load = cls.find_published(pretrained_model_name_or_path, hub_arguments(kwargs))
        if load is None:
            kwargs["use_safetensors"] = True
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        refuse_others(pretrained_model_name_or_path, kwargs)
        return load().eval()

    @classmethod
    def find_published(cls, name_or_path: str, hub: dict) -> Callable[[], "RankingModel"] | None:
        """Return what loads a published folder; None for a checkpoint of this class. Raises as `published_fields`."""
        fields = published_fields(name_or_path, cls.config_class.model_type, **hub)
        return None if fields is None else partial(cls.from_encoder, name_or_path, **fields, **hub)
