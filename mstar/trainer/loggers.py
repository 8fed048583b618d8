"""What a logger shows: numbers under names that it takes, pictures and tables where it can, the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from mstar.dashboards.tensorboard import first_picture, log_samples
from mstar.dashboards.wording import describe_outcome, visible
from mstar.storage import PromptResponses

# Beside the settings, TensorBoard's table of runs shows what they led to.
_OUTCOMES: Final = ("dynamics/greedy_accuracy", "val/accuracy", "mprm/auc_within", "train/loss")


def writer_of(logger: Logger) -> SummaryWriter | None:
    """TensorBoard's writer; None of another logger. The main process has one."""
    return logger.experiment if isinstance(logger, TensorBoardLogger) else None


def log_numbers(logger: Logger, numbers: Mapping[str, float], step: int) -> None:
    """Logs numbers by their tags.

    MLflow takes no ``@`` in a name: ``dynamics/pass@16`` is ``dynamics/pass_at_16`` there.
    """
    if isinstance(logger, MLFlowLogger):
        numbers = {tag.replace("@", "_at_"): number for tag, number in numbers.items()}
    logger.log_metrics(dict(numbers), step)


def log_prompts(logger: Logger, groups: Sequence[PromptResponses], step: int) -> None:
    """Shows prompts with their responses: their pictures as ``samples/0`` and so on, and a table of the texts."""
    writer = writer_of(logger)
    if writer is not None:
        log_samples(writer, groups, step)
        return
    for number, group in enumerate(groups):
        _log_picture(logger, f"samples/{number}", group, step)
    _log_table(logger, "samples/table", groups, step)


def log_settings(logger: Logger, settings: Mapping[str, object]) -> None:
    """Logs the settings of a run as its hyperparameters."""
    plain = {
        key.replace(".init_args", ""): value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in settings.items()
    }
    logger.log_hyperparams(plain)
    if isinstance(logger, TensorBoardLogger) and not logger._default_hp_metric:
        # Lightning writes them only with a number of its own, which would be a chart with one meaningless point.
        for summary in hparams(plain, dict.fromkeys(_OUTCOMES, 0.0)):
            logger.experiment._get_file_writer().add_summary(summary)


def _log_picture(logger: Any, tag: str, group: PromptResponses, step: int) -> None:
    mlflow = isinstance(logger, MLFlowLogger)
    picture = first_picture(group) if mlflow or hasattr(logger, "log_image") else None
    if picture is None:
        return
    if mlflow:
        logger.experiment.log_image(logger.run_id, picture, key=tag, step=step)
    else:
        # Weights & Biases, and others that do as it does.
        logger.log_image(tag, [picture], step)


def _log_table(logger: Any, tag: str, groups: Sequence[PromptResponses], step: int) -> None:
    rows = [
        {
            "prompt": group.prompt.id,
            "question": visible(group.prompt.conversation),
            "answer": visible(group.prompt.answer or ""),
            "response": visible(scored.response.text),
            "outcome": describe_outcome(scored),
            "step scores": " ".join(f"{score:.2f}" for score in scored.step_scores),
        }
        for group in groups
        for scored in group.responses
    ]
    if not rows:
        return
    if isinstance(logger, MLFlowLogger):
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        logger.experiment.log_dict(logger.run_id, columns, f"{tag}-{step:04d}.json")
    elif hasattr(logger, "log_table"):
        # Weights & Biases, and others that do as it does.
        logger.log_table(tag, columns=list(rows[0]), data=[list(row.values()) for row in rows], step=step)
