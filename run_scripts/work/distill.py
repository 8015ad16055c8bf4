"""A student trained on a teacher's scores: a dual encoder, ColBERT or a smaller cross-encoder."""

import logging
from dataclasses import replace

from peft import PeftModel
from transformers import PreTrainedModel

from m3se.modeling.colbert import ColBERT
from m3se.modeling.cross_encoder import CrossEncoder
from m3se.modeling.dual_encoder import DualEncoder
from m3se.run_scripts.cli.arguments import DevArguments, EncoderArguments, RunArguments
from m3se.run_scripts.distill import StudentArguments
from m3se.run_scripts.work.training import adapt, train
from m3se.trainers.config import RankingConfig
from m3se.trainers.data import RankingLists, lists_relevant_from, read_data
from m3se.trainers.data.schema import holds_lists
from m3se.trainers.errors import InputError
from m3se.trainers.matching.other_model import OtherModel
from m3se.trainers.matching.texts import text_rows
from m3se.trainers.meter import count_unusable
from m3se.trainers.models.backbones import encoder_path
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.refreshing.plan import DEPTH, RefreshPlan, load_teachers
from m3se.trainers.teacher.temperature import describe_loss, resolve_temperature
from m3se.trainers.trainer_options import refuse_sharding


logger = logging.getLogger(__name__)

PSEUDO_POSITIVES = "score_with_teacher.py --pseudo_positives true makes the teacher's best document a positive"


SCALE = ("scale", "learn_scale")  # of a dual encoder or ColBERT


def main(
    student: StudentArguments,
    encoder: EncoderArguments,
    dev: DevArguments,
    run_arguments: RunArguments,
    config: RankingConfig,
) -> None:
    """Train the student.

    Args:
        student: its shape, and the lists that it is trained on.
        encoder: what training starts from.
        dev: what is measured meanwhile.
        run_arguments: what happens to another run in output_dir.
        config: options of the training.
    """
    if config.score_scale == "learned" and student.learn_scale is None:
        student = replace(student, learn_scale=True)
    student = with_normalization(student, config)
    other = load_other_model(student, config)
    plan = plan_refreshing(student, config, dev)
    train(
        student,
        encoder,
        dev,
        run_arguments,
        config,
        build_model=lambda: build_model(student, encoder, other),
        read_lists=lambda: read_lists(student, config, dev),
        other=other,
        plan=plan,
    )


def with_normalization(student: StudentArguments, config: RankingConfig) -> StudentArguments:
    """Let a student that only matches embeddings compare them by cosine; return other students as they are.

    `embedding_matching` compares directions, so that nothing trains the lengths, which would decide on the ranking.

    Raises:
        InputError: `normalize` is refused to such a student.
    """
    if student.embedding_teacher is None or student.document_encoder is not None or config.ranks:
        return student
    if student.normalize is False:
        raise InputError(
            "normalize: expected true with ranking_weight 0, where nothing trains the lengths of the embeddings"
        )
    return replace(student, normalize=True)


def load_other_model(student: StudentArguments, config: RankingConfig) -> OtherModel | None:
    """Load the model that a student is trained beside, and complete the weights of the losses; None without one.

    Args:
        student: names it.
        config: `embedding_weight` becomes 1 where nobody chose it.

    Raises:
        InputError: weights that contradict the options, or a model that does not embed a text in one vector.
    """
    name = student.document_encoder or student.embedding_teacher
    if name is None:
        if config.embedding_weight:
            raise InputError("embedding_weight: name the other model with embedding_teacher or document_encoder")
        return None
    if config.embedding_weight is None:
        config.embedding_weight = 1.0
    if student.embedding_teacher is not None and not config.embedding_weight:
        raise InputError("embedding_teacher: has no effect with embedding_weight 0")
    if not config.ranks and not config.embedding_weight:
        raise InputError("ranking_weight, embedding_weight: both are 0, which leaves nothing to learn")
    if student.document_encoder is not None and config.mlm_weight:
        raise InputError("mlm_weight: reads the documents' tokens, and document_encoder has embedded them before")
    uses = {"has_documents": student.document_encoder is not None, "matches": config.embedding_weight > 0}
    return OtherModel.load(name, config.device, **uses)


def plan_refreshing(student: StudentArguments, config: RankingConfig, dev: DevArguments) -> RefreshPlan | None:
    """Return when negatives are drawn anew, with the teacher that scores them loaded; None for never.

    Args:
        student: the options.
        config: tells whether the loss reads teacher scores.
        dev: where the score cache is, and whether a document may have the id of its query.

    Raises:
        InputError: there is nothing to draw for or to draw with.
    """
    if not student.refresh_steps:
        return None
    if not config.ranks:
        raise InputError("refresh_steps: ranking_weight 0 learns nothing from negatives")
    if not holds_lists(student.data):
        raise InputError(f"refresh_steps: {student.data} is no folder of ranking lists, which have negatives")
    if config.reads_teacher and not student.refresh_teacher:
        raise InputError(f"refresh_teacher: loss {config.loss} needs a teacher's scores of the new documents")
    if student.refresh_teacher and not config.reads_teacher:
        raise InputError(f"refresh_teacher: has no effect, {config.loss} reads no teacher's scores here")
    refuse_sharding("refresh_steps", config)
    names = student.refresh_teacher or []
    return RefreshPlan(
        student.refresh_steps,
        DEPTH if student.refresh_depth is None else student.refresh_depth,
        load_teachers(names, config.device),
        dev.cache_dir,
        dev.keep_identical_ids,
    )


def build_model(
    student: StudentArguments, arguments: EncoderArguments, other: OtherModel | None = None
) -> PreTrainedModel | PeftModel:
    """Return the untrained student.

    Args:
        student: its shape.
        arguments: what it starts from.
        other: the model that it is trained beside, if any.

    Raises:
        InputError: the encoder cannot be used, or an option does not fit it.
    """
    path = encoder_path(arguments.encoder)
    fields = {name: getattr(arguments, name) for name in ("layers", "dropout", "query_length", "document_length")}
    for name in ("query_prompt", "document_prompt"):
        if getattr(student, name) is not None:
            fields[name] = getattr(student, name)
    if student.architecture == "dual_encoder":
        options = ("pooling", "tied", "projection_size", "output_norm", "normalize", "embedding_dropout", *SCALE)
        shape = {name: getattr(student, name) for name in options if getattr(student, name) is not None}
        if other is not None and other.has_documents:
            shape |= other.query_encoder_fields(ModelInfo.read(path), arguments.layers, shape.keys())
        model = DualEncoder.from_encoder(path, **fields, **shape)
        if other is not None:
            other.join(model, has_adapters=arguments.lora_r is not None)
    elif student.architecture == "colbert":
        options = ("projection_size", "embedding_dropout", *SCALE)
        shape = {name: getattr(student, name) for name in options if getattr(student, name) is not None}
        model = ColBERT.from_encoder(path, **fields, **student.colbert_args | shape)
    elif student.architecture == "cross_encoder":
        model = CrossEncoder.from_encoder(path, **fields)
    else:
        raise InputError(
            f"architecture: expected dual_encoder, colbert or cross_encoder, got {student.architecture!r}"
        )
    return adapt(model, arguments)


def read_texts(student: StudentArguments, config: RankingConfig, dev: DevArguments) -> RankingLists:
    """Read the texts of a collection to match embeddings on. The training sample becomes empty: they are no lists."""
    options = {"cache_dir": dev.cache_dir, "allow_missing": dev.allow_missing, "unlabelled": True}
    collection = read_data(student.data, "train", **options)
    config.train_sample_size = 0
    return text_rows(collection, with_documents=student.document_encoder is None).first(student.train_rows)


def read_lists(student: StudentArguments, config: RankingConfig, dev: DevArguments) -> RankingLists:
    """Load the training lists, with labels from dev's grade on, or texts alone where only embeddings are matched.

    Raises:
        InputError: nothing can be learnt from them.
    """
    if not config.ranks and not holds_lists(student.data):
        return read_texts(student, config, dev)
    lists = lists_relevant_from(load_lists(student, config), dev.relevance_level)
    return check_usable(lists, config, student.data) if config.ranks else lists


def load_lists(student: StudentArguments, config: RankingConfig) -> RankingLists:
    """Load the training lists, and choose what the loss leaves to them.

    Raises:
        InputError: there is no list, or the loss needs teacher scores that they do not have.
    """
    lists = RankingLists.load(student.data).first(student.train_rows)
    if len(lists.rows) == 0:
        raise InputError(f"{student.data}: no list to train on (train_rows: {student.train_rows})")
    if not config.reads_teacher:
        return lists
    if "teacher_scores" not in lists.rows.column_names:
        raise InputError(f"{student.data}: loss {config.loss} needs teacher scores; run score_with_teacher.py first")
    config.loss_args = resolve_temperature(config.loss_args, lists)
    if config.process_index == 0:
        logger.info(describe_loss(lists, config.loss, config.loss_args))
    return lists


def check_usable(lists: RankingLists, config: RankingConfig, data: str) -> RankingLists:
    """Say how many lists the loss learns nothing from, and return the lists.

    Raises:
        InputError: it learns nothing from all of them.
    """
    added = config.in_batch_negatives or config.uniform_negatives > 0
    counts = count_unusable(lists.rows, config.loss, config.one_hot_weight, added)
    if counts["unusable"] == len(lists.rows):
        raise InputError(
            f"{data}: {config.loss} learns nothing from any of {len(lists.rows)} lists, of which "
            f"{counts['without_positive']} have no positive; {PSEUDO_POSITIVES}"
        )
    needs_positive = config.loss not in ("mse", "softmax_distillation")
    if config.process_index == 0 and (counts["unusable"] or (needs_positive and counts["without_positive"])):
        logger.warning(
            "%s of %s lists have no positive, and %s learns nothing from %s; %s",
            f"{counts['without_positive']:,}",
            f"{len(lists.rows):,}",
            config.loss,
            f"{counts['unusable']:,}",
            PSEUDO_POSITIVES,
        )
    return lists
