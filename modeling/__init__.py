from .colbert import ColBERT, ColBERTConfig
from .cross_encoder import CrossEncoder, CrossEncoderConfig
from .dual_encoder import DualEncoder, DualEncoderConfig
from .outputs import RankingOutput
from .scoring import dot_scores, maxsim_scores


__all__ = [
    "ColBERT",
    "ColBERTConfig",
    "CrossEncoder",
    "CrossEncoderConfig",
    "DualEncoder",
    "DualEncoderConfig",
    "RankingOutput",
    "dot_scores",
    "maxsim_scores",
]
