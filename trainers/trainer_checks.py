"""Refusals of a trainer: options that its model, tokeniser, collator or data cannot serve, before the first step."""

from datasets import Dataset
from peft import PeftModel
from transformers import Trainer

from m3se.modeling.dual_encoder import DualEncoder
from m3se.trainers.collators import RankingCollator
from m3se.trainers.errors import InputError
from m3se.trainers.models.parts import document_encoder
from m3se.trainers.trainer_options import refuse_sharding


def check_trainer(trainer: Trainer) -> None:
    """Raise InputError for options of a DistillationTrainer that something it was given cannot serve."""
    check_collator(trainer)
    check_matching(trainer)
    check_rows(trainer)
    check_encoder(trainer)
    check_average(trainer)


def check_encoder(trainer: Trainer) -> None:
    """Raise InputError for regularisers that the encoder or its tokeniser does not have the parts for."""
    args, model = trainer.args, trainer.ranking_model
    hides = args.token_dropout or args.mlm_weight
    if hides and trainer.processing_class.mask_token_id is None:
        raise InputError("token_dropout and mlm_weight need a tokeniser with a mask token")
    encoder = document_encoder(model)
    if args.mlm_weight and getattr(encoder.config, "num_hidden_layers", None) == 0:
        raise InputError("mlm_weight: expected layers, which tell a hidden token from its neighbours, got layers 0")
    words, states = encoder.get_input_embeddings().embedding_dim, encoder.config.hidden_size
    if args.mlm_weight and words != states:  # the head is the word embeddings
        raise InputError(
            f"mlm_weight: expected an encoder with word embeddings as wide as its states, {states}, got {words}"
        )


def check_average(trainer: Trainer) -> None:
    """Raise InputError for a mean of models whose weights are not whole: divided, or an adapter's factors."""
    for name in ("average_checkpoints", "start_share"):
        if not getattr(trainer.args, name):
            continue
        if isinstance(trainer.model, PeftModel):
            raise InputError(f"{name}: the mean of an adapter's factors is not the mean of its weights")
        refuse_sharding(name, trainer.args)


def check_collator(trainer: Trainer) -> None:
    """Raise InputError for options that ask more of the collator than is there."""
    args, collator = trainer.args, trainer.data_collator
    if isinstance(collator, RankingCollator):
        collator.check_prompts(trainer.ranking_model.config)
        collection = len(collator.documents)
        if args.uniform_negatives > collection:
            raise InputError(f"uniform_negatives: expected at most {collection}, the size of the collection")
    elif args.uniform_negatives or trainer.eval_documents:
        name = "uniform_negatives" if args.uniform_negatives else "eval_documents"
        raise InputError(f"{name}: needs a RankingCollator, which has a document table")


def check_matching(trainer: Trainer) -> None:
    """Raise InputError for embedding matching without embeddings or with a model that has none, and for no loss."""
    args, collator = trainer.args, trainer.data_collator
    if args.ranking_weight == 0 and not args.embedding_weight:
        raise InputError("ranking_weight: 0 leaves nothing to learn without embedding_weight")
    is_dense = isinstance(trainer.ranking_model, DualEncoder)
    if args.embedding_weight and not is_dense:
        raise InputError("embedding_weight: expected a dual_encoder, which makes one vector of a text")
    if not isinstance(collator, RankingCollator):
        return
    if args.embedding_weight and collator.teacher_embeddings is None:
        raise InputError("embedding_weight: needs the embeddings of a teacher (embedding_teacher)")
    if collator.document_embeddings is None:
        return
    if not is_dense or args.mlm_weight:
        reason = "mlm_weight reads the documents' tokens" if is_dense else "only a dual_encoder meets document vectors"
        raise InputError(f"document_embeddings: {reason}")
    for embeddings in filter(None, (collator.teacher_embeddings, collator.document_embeddings)):
        embeddings.check_table(collator.documents)


def check_rows(trainer: Trainer) -> None:
    """Raise InputError for options that ask more of the rows than is there."""
    args, rows = trainer.args, trainer.train_dataset
    if isinstance(trainer.eval_dataset, Dataset):
        args.check_dev_loss("teacher_scores" in trainer.eval_dataset.column_names)
    if not hasattr(rows, "__len__"):  # a stream, or none
        return
    step = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and len(rows) < step:
        raise InputError(f"dataloader_drop_last: expected at least {step} rows, a whole batch, got {len(rows)}")
    if args.sample_documents and not (len(rows) and {"document_ids", "labels"} <= set(rows[0])):
        raise InputError("sample_documents: needs rows with document_ids and labels")
