"""Checkpoints: which are kept, whether they are whole, and whether a fit goes on from them as if it had not stopped."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.data import DistributedSampler, TensorDataset

from mstar.__main__ import main
from mstar.callbacks import IterationCheckpoint, checkpoint
from mstar.callbacks.checkpoint import find_checkpoint
from mstar.callbacks.signals import StopOnSignal
from mstar.datamodules.resumable import ResumableLoader
from mstar.errors import ConfigError, DataError
from mstar.interruption import Interrupted, stop_if_asked, stopping_on_signals
from mstar.trainer.checkpoint_io import find_damage

ROWS = 14


class Noisy(LightningModule):
    """A model whose weights depend on the order of the data, on dropout and on the schedule."""

    def __init__(self, workers: int = 0, stop_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.workers = workers
        self.stop_at = stop_at
        self.seen: list[int] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.seen.append(int(batch[0][0, 0]))
        if len(self.seen) == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layers(batch[0] / ROWS).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3), "interval": "step"}]

    def train_dataloader(self) -> ResumableLoader[Any]:
        data = TensorDataset(torch.arange(ROWS * 4.0).view(ROWS, 4).div(4, rounding_mode="floor"))
        sampler: Any = DistributedSampler(data, num_replicas=1, rank=0, seed=3)
        return ResumableLoader(data, batch_size=2, sampler=sampler, num_workers=self.workers)


class Validated(Noisy):
    """The same, with a validation of three batches that draws random numbers; asked to stop at one of them."""

    def __init__(self, stop_at: int | None = None, workers: int = 0) -> None:
        super().__init__(workers)
        self.stop_validation_at = stop_at
        self.validated: list[tuple[int, float]] = []

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        if self.trainer.sanity_checking:
            return
        self.validated.append((batch_idx, float(torch.rand(()))))
        if len(self.validated) == self.stop_validation_at:
            os.kill(os.getpid(), signal.SIGTERM)
        # As an engine does that writes the responses of this batch.
        stop_if_asked()

    def val_dataloader(self) -> ResumableLoader[Any]:
        return ResumableLoader(TensorDataset(torch.zeros(3)), batch_size=1)


class Plateaued(Noisy):
    """The same, with a rate that is halved at the end of every second epoch, but the first."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        # Nothing is ever better by so much.
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=0, threshold=1e9, threshold_mode="abs"
        )
        return [optimizer], [{"scheduler": scheduler, "monitor": "train/loss", "frequency": 2}]


def fit(
    root: Path,
    checkpoint: IterationCheckpoint,
    module: Noisy | None = None,
    callbacks: Sequence[Callback] = (),
    **limits: Any,
) -> Noisy:
    trainer = Trainer(
        accelerator="cpu", callbacks=[StopOnSignal(), *callbacks, checkpoint], default_root_dir=root, logger=False,
        enable_progress_bar=False, enable_model_summary=False, **{"max_epochs": 3, **limits},
    )  # fmt: skip
    module = module or Noisy()
    trainer.fit(module, ckpt_path=find_checkpoint(root))
    return module


def load(root: Path, name: str = "last") -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(root / f"checkpoints/{name}.ckpt", weights_only=True)
    return loaded


def assert_same(one: Path, other: Path) -> None:
    a, b = load(one), load(other)
    assert a["global_step"] == b["global_step"]
    assert a["lr_schedulers"] == b["lr_schedulers"]
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    fit(root, IterationCheckpoint())
    return root


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        (IterationCheckpoint(), ["iteration-0003"]),
        (IterationCheckpoint(keep_last=2), ["iteration-0002", "iteration-0003"]),
        (IterationCheckpoint(keep_last=9), ["iteration-0001", "iteration-0002", "iteration-0003"]),
        (IterationCheckpoint(keep_all=True), ["iteration-0001", "iteration-0002", "iteration-0003"]),
        (IterationCheckpoint(keep_all=True, every_n_steps=2), ["iteration-0001", "iteration-0002", "iteration-0003"]),
    ],
)
def test_which_checkpoints_are_kept(tmp_path: Path, checkpoint: IterationCheckpoint, expected: list[str]) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    copies = {"good.ckpt", "iteration-0002-good.ckpt"}
    for name in copies:
        (folder / name).touch()
    fit(tmp_path, checkpoint)
    names = {path.name for path in folder.iterdir()}
    assert names == {*(f"{name}.ckpt" for name in expected), *copies, "last.ckpt", "previous.ckpt"}
    assert load(tmp_path)["global_step"] == load(tmp_path, "iteration-0003")["global_step"] == 21


def test_two_iterations_are_two_files_with_two_names_each(tmp_path: Path) -> None:
    fit(tmp_path, IterationCheckpoint(keep_last=2))
    folder = tmp_path / "checkpoints"
    assert (folder / "last.ckpt").samefile(folder / "iteration-0003.ckpt")
    assert (folder / "previous.ckpt").samefile(folder / "iteration-0002.ckpt")


@pytest.mark.parametrize("folders", [False, True])
@pytest.mark.parametrize(
    ("checkpoint", "names"),
    [
        (IterationCheckpoint(keep_last=2), []),
        (IterationCheckpoint(keep_last=3), ["iteration-0001", "iteration-0002", "iteration-0003"]),
        (IterationCheckpoint(keep_last=1, every_n_steps=3), ["iteration-0003"]),
    ],
)
def test_without_hard_links_a_name_is_copied_only_where_it_outlives_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: IterationCheckpoint, names: list[str], folders: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if folders:
        # As FSDP2 writes them.
        def save(_: Any, content: dict[str, Any], path: Path) -> None:
            path.mkdir()
            (path / "part").write_text(str(content["global_step"]))

        monkeypatch.setattr(SingleDeviceStrategy, "save_checkpoint", save)
    fit(tmp_path, checkpoint)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [f"{n}.ckpt" for n in [*names, "last", "previous"]]
    for name in names[-1:]:
        one, other = (folder / f"{n}.ckpt" for n in (name, "last"))
        assert (one / "part").read_text() == (other / "part").read_text() if folders else find_damage(one) is None


@pytest.mark.parametrize(
    ("checkpoint", "rest", "peak"),
    [
        (IterationCheckpoint(), 2, 3),
        (IterationCheckpoint(keep_last=2), 2, 3),
        (IterationCheckpoint(keep_last=4), 4, 5),
        (IterationCheckpoint(keep_last=1, every_n_steps=2), 2, 4),
        (IterationCheckpoint(keep_last=2, every_n_steps=2), 3, 5),
        (IterationCheckpoint(keep_all=True), 6, 6),
    ],
)
def test_so_many_checkpoints_are_on_the_disk_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: IterationCheckpoint, rest: int, peak: int
) -> None:
    seen: list[int] = []

    def count() -> int:
        # Files of several names count once.
        return len({path.stat().st_ino for path in (tmp_path / "checkpoints").iterdir()})

    save = SingleDeviceStrategy.save_checkpoint

    def counted(strategy: SingleDeviceStrategy, *arguments: Any, **options: Any) -> None:
        save(strategy, *arguments, **options)
        seen.append(count())

    monkeypatch.setattr(SingleDeviceStrategy, "save_checkpoint", counted)
    fit(tmp_path, checkpoint, max_epochs=6)
    assert (count(), max(seen)) == (rest, peak)


@pytest.mark.parametrize("keep_last", [1, 2])
def test_a_kill_at_any_file_operation_leaves_a_checkpoint_to_go_on_from(tmp_path: Path, keep_last: int) -> None:
    fit(tmp_path / "whole", IterationCheckpoint(keep_last=keep_last), max_epochs=2)
    killed = 0
    for moment in range(100):
        root = tmp_path / str(moment)
        child = os.fork()
        if child == 0:
            _fit_until(root, moment, keep_last)
        if os.waitpid(child, 0)[1] == 0:
            break
        killed += 1
        fit(root, IterationCheckpoint(keep_last=keep_last), max_epochs=2)
        assert_same(tmp_path / "whole", root)
        assert sorted(path.name for path in (root / "checkpoints").glob("*.ckpt") if path.name[0] != ".") == sorted(
            path.name for path in (tmp_path / "whole/checkpoints").iterdir()
        )
    assert 8 < killed < 99


def _fit_until(root: Path, moment: int, keep_last: int) -> None:
    """Fits in this process and kills it before the file operation of a number; does not return."""
    done = 0

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done > moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.replace, os.link, Path.unlink = counted(os.replace), counted(os.link), counted(Path.unlink)  # type: ignore[method-assign]
    try:
        fit(root, IterationCheckpoint(keep_last=keep_last), max_epochs=2)
        os._exit(0)
    finally:
        os._exit(1)


def test_the_previous_one_is_kept(tmp_path: Path) -> None:
    fit(tmp_path, IterationCheckpoint(every=2), max_epochs=4)
    assert [load(tmp_path, name)["epoch"] for name in ("previous", "last")] == [1, 3]
    fit(tmp_path / "steps", IterationCheckpoint(every_n_steps=4), max_epochs=1)
    assert [load(tmp_path / "steps", name)["global_step"] for name in ("previous", "last")] == [4, 7]


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="every_n_steps is 0, but it must be at least 1"):
        IterationCheckpoint(every_n_steps=0)


# 7 batches an epoch: stops at the first step, in the middle, at an epoch's last step (whose signal comes too late for a
# checkpoint within it), and in a later epoch.
@pytest.mark.parametrize("stop_at", [1, 4, 7, 8, 13])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_stopped_fit_goes_on_as_if_it_had_not_been(tmp_path: Path, stop_at: int, accumulate: int) -> None:
    options = {"accumulate_grad_batches": accumulate}
    reference = fit(tmp_path / "whole", IterationCheckpoint(), **options).seen
    stopped = Noisy(stop_at=stop_at)
    with stopping_on_signals(), pytest.raises(Interrupted) as end:
        fit(tmp_path / "stopped", IterationCheckpoint(), stopped, **options)
    assert end.value.code == 143
    # Within a step: up to the end of the accumulation, or of the epoch.
    assert len(stopped.seen) == min(-(-stop_at // accumulate) * accumulate, 7 if stop_at <= 7 else 14) or accumulate > 1
    rest = fit(tmp_path / "stopped", IterationCheckpoint(), **options).seen
    assert stopped.seen + rest == reference
    assert_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("steps", [2, 7, 9])
def test_a_checkpoint_within_an_epoch_or_at_its_last_step_is_gone_on_from(
    tmp_path: Path, whole: Path, steps: int, workers: int
) -> None:
    # As after a kill before the last checkpoint was written.
    fit(tmp_path, IterationCheckpoint(every_n_steps=steps), Noisy(workers), max_epochs=2)
    folder = tmp_path / "checkpoints"
    (folder / "previous.ckpt").replace(folder / "last.ckpt")
    assert load(tmp_path)["global_step"] == {2: 12, 7: 7, 9: 9}[steps]
    rest = fit(tmp_path, IterationCheckpoint(), Noisy(workers))
    assert len(rest.seen) == 21 - {2: 12, 7: 7, 9: 9}[steps]
    assert_same(whole, tmp_path)


@pytest.mark.parametrize("stops", [{1: None, 2: None, 3: None}, {6: 10}])
def test_a_rate_that_follows_a_metric_is_lowered_however_often_a_fit_is_resumed(
    tmp_path: Path, stops: dict[int, int | None]
) -> None:
    """After epochs, or by a signal within the second one."""
    fit(tmp_path / "whole", IterationCheckpoint(), Plateaued(), max_epochs=6)
    assert load(tmp_path / "whole")["optimizer_states"][0]["param_groups"][0]["lr"] == 0.1 / 2
    for epochs, stop_at in stops.items():
        with stopping_on_signals(), suppress(Interrupted):
            fit(tmp_path / "stopped", IterationCheckpoint(), Plateaued(stop_at=stop_at), max_epochs=epochs)
    fit(tmp_path / "stopped", IterationCheckpoint(), Plateaued(), max_epochs=6)
    assert_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 9])
@pytest.mark.parametrize(("accumulate", "workers"), [(1, 0), (3, 1)])
def test_a_fit_stopped_in_the_validation_does_it_again_and_loses_no_training(
    tmp_path: Path, stop_at: int, accumulate: int, workers: int
) -> None:
    options = {"accumulate_grad_batches": accumulate}
    reference = Validated(workers=workers)
    fit(tmp_path / "whole", IterationCheckpoint(), reference, **options)
    assert len(reference.validated) == 9
    stopped = Validated(stop_at, workers)
    with stopping_on_signals(), pytest.raises(Interrupted) as end:
        fit(tmp_path / "stopped", IterationCheckpoint(), stopped, **options)
    assert end.value.code == 143
    assert len(stopped.validated) == stop_at
    epoch = (stop_at - 1) // 3
    saved = load(tmp_path / "stopped")
    assert (saved["epoch"], saved["global_step"]) == (epoch, (epoch + 1) * -(-7 // accumulate))
    rest = Validated(workers=workers)
    fit(tmp_path / "stopped", IterationCheckpoint(), rest, **options)
    assert stopped.seen + rest.seen == reference.seen
    assert stopped.validated[: epoch * 3] + rest.validated == reference.validated
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    last = [load(tmp_path / name)["loops"]["fit_loop"] for name in ("whole", "stopped")]
    assert last[0] == last[1]


@pytest.mark.parametrize("again_at", [1, 3])
def test_a_validation_that_is_done_again_can_be_stopped_again(tmp_path: Path, again_at: int) -> None:
    reference = Validated()
    fit(tmp_path / "whole", IterationCheckpoint(), reference)
    stops = [Validated(4), Validated(again_at)]
    for stopped in stops:
        with stopping_on_signals(), pytest.raises(Interrupted):
            fit(tmp_path / "stopped", IterationCheckpoint(), stopped)
    assert (len(stops[1].seen), len(stops[1].validated)) == (0, again_at)
    rest = Validated()
    fit(tmp_path / "stopped", IterationCheckpoint(), rest)
    assert stops[0].seen + rest.seen == reference.seen
    assert stops[0].validated[:3] + rest.validated == reference.validated
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    last = [load(tmp_path / name)["loops"]["fit_loop"] for name in ("whole", "stopped")]
    assert last[0] == last[1]


def test_a_validation_within_an_epoch_is_ended_before_the_fit_stops(tmp_path: Path) -> None:
    options = {"val_check_interval": 3}
    reference = Validated()
    fit(tmp_path / "whole", IterationCheckpoint(), reference, **options)
    stopped = Validated(2)
    with stopping_on_signals(), pytest.raises(Interrupted):
        fit(tmp_path / "stopped", IterationCheckpoint(), stopped, **options)
    assert (len(stopped.seen), len(stopped.validated)) == (4, 3)
    rest = Validated()
    fit(tmp_path / "stopped", IterationCheckpoint(), rest, **options)
    assert stopped.seen + rest.seen == reference.seen
    assert stopped.validated + rest.validated == reference.validated
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_a_validation_by_the_clock_is_ended_before_the_fit_stops(tmp_path: Path) -> None:
    stopped = Validated(19)
    with stopping_on_signals(), pytest.raises(Interrupted):
        fit(tmp_path, IterationCheckpoint(), stopped, val_check_interval=timedelta(0))
    assert (len(stopped.seen), len(stopped.validated)) == (7, 21)
    rest = fit(tmp_path, IterationCheckpoint(), Validated(), val_check_interval=timedelta(hours=1))
    assert len(rest.seen) == 14


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    path.write_bytes(content)


def cut(path: Path, place: float) -> None:
    os.truncate(path, int(path.stat().st_size * place))


@pytest.mark.parametrize(("damage", "place"), [(flip, 0.3), (flip, 0.6), (cut, 0.9), (cut, 0.0)])
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(
    tmp_path: Path, whole: Path, damage: Any, place: float, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, IterationCheckpoint(), max_epochs=2)
    # The name of the last iteration shares its content with last.ckpt, and so its damage.
    damage(tmp_path / "checkpoints/last.ckpt", place)
    rest = fit(tmp_path, IterationCheckpoint())
    assert len(rest.seen) == 14
    assert_same(whole, tmp_path)
    said = capsys.readouterr().err
    assert "last.ckpt' cannot be used (it is damaged" in said
    assert "going on from" in said
    assert (tmp_path / "checkpoints/last.ckpt.damaged").exists()


def test_the_process_that_writes_is_waited_for_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning waits by the process group of training, whose timeout is that of a step."""
    told: list[str] = []
    monkeypatch.setattr(checkpoint, "wait_for_all", lambda: told.append("waited"))
    monkeypatch.setattr(SingleDeviceStrategy, "barrier", lambda _, name=None: told.append(str(name)))
    save = SingleDeviceStrategy.save_checkpoint
    monkeypatch.setattr(
        SingleDeviceStrategy, "save_checkpoint", lambda *given, **more: (save(*given, **more), told.append("wrote"))
    )
    fit(tmp_path, IterationCheckpoint(), max_epochs=1)
    wrote = told.index("wrote")
    assert told[wrote - 1 : wrote + 3] == ["waited", "wrote", "waited", "waited"]
    assert "Trainer.save_checkpoint" not in told


def test_without_a_whole_checkpoint_the_run_does_not_silently_start_over(tmp_path: Path) -> None:
    fit(tmp_path, IterationCheckpoint(), max_epochs=1)
    cut(tmp_path / "checkpoints/last.ckpt", 0.5)
    with pytest.raises(DataError, match=r"last.ckpt' cannot be used \(it is damaged.*there is no whole one beside it"):
        fit(tmp_path, IterationCheckpoint())


def test_another_number_of_processes_cannot_go_on_within_an_epoch(tmp_path: Path) -> None:
    fit(tmp_path, IterationCheckpoint(every_n_steps=4), max_epochs=1)
    folder = tmp_path / "checkpoints"
    content = torch.load(folder / "previous.ckpt", weights_only=True)
    content["callbacks"]["IterationCheckpoint"]["random"] *= 2
    torch.save(content, folder / "last.ckpt")
    with pytest.raises(ConfigError, match=r"within an epoch by 2 processes.*go on with 2, or from the end of an itera"):
        fit(tmp_path, IterationCheckpoint())


class EndAt(Callback):
    """Tells a fit to end after a batch, counted from this call's first, or after a validation."""

    def __init__(self, batch: int = 0, validation: int = 0) -> None:
        self.batch = batch
        self.validation = validation

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.batch -= 1
        trainer.should_stop = trainer.should_stop or self.batch == 0

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.sanity_checking:
            return
        self.validation -= 1
        trainer.should_stop = trainer.should_stop or self.validation == 0


# 7 batches an epoch, and with accumulation 3 steps: within an epoch, at its end, and at the fit's. The last call has a
# limit of steps too, or one of epochs alone.
@pytest.mark.parametrize(
    ("accumulate", "limits"), [(1, [2, 7, 9, 21]), (1, [1, 2, -1]), (1, [14, -1]), (3, [1, 4, 8, 9]), (3, [6, -1])]
)
def test_a_fit_whose_limit_of_steps_is_raised_ends_as_one_that_had_it_from_the_beginning(
    tmp_path: Path, accumulate: int, limits: list[int]
) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate}
    reference = Validated()
    fit(tmp_path / "whole", IterationCheckpoint(), reference, **options)
    seen: list[int] = []
    validated: list[tuple[int, float]] = []
    for limit in limits:
        part = Validated()
        fit(tmp_path / "parts", IterationCheckpoint(), part, max_steps=limit, **options)
        seen += part.seen
        validated += part.validated
        assert limit in (load(tmp_path / "parts")["global_step"], -1)
    assert seen == reference.seen
    assert validated == reference.validated
    assert_same(tmp_path / "whole", tmp_path / "parts")
    progress = [load(tmp_path / name)["loops"]["fit_loop"]["epoch_progress"] for name in ("whole", "parts")]
    assert progress[0] == progress[1]


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 1), (7, 1), (1, 3), (6, 3), (11, 3), (7, 3)])
def test_a_fit_that_a_callback_ends_goes_on_as_if_it_had_not_been(tmp_path: Path, batch: int, accumulate: int) -> None:
    """So trainer.max_time ends one; gradients that are being added up are not lost, and the needless validation is."""
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate}
    reference = Validated()
    fit(tmp_path / "whole", IterationCheckpoint(), reference, **options)
    first, rest = Validated(), Validated()
    fit(tmp_path / "parts", IterationCheckpoint(), first, callbacks=[EndAt(batch)], **options)
    within = (batch - 1) % 7 + 1
    assert len(first.seen) == batch - within + min(-(-within // accumulate) * accumulate, 7)
    fit(tmp_path / "parts", IterationCheckpoint(), rest, **options)
    assert first.seen + rest.seen == reference.seen
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(("validation", "steps"), [(1, 3), (2, 6), (3, 10)])
def test_a_fit_that_a_validation_within_an_epoch_ends_goes_on_after_it(
    tmp_path: Path, validation: int, steps: int
) -> None:
    options: dict[str, Any] = {"val_check_interval": 3}
    reference = Validated()
    fit(tmp_path / "whole", IterationCheckpoint(), reference, **options)
    first, rest = Validated(), Validated()
    fit(tmp_path / "parts", IterationCheckpoint(), first, callbacks=[EndAt(validation=validation)], **options)
    assert load(tmp_path / "parts")["global_step"] == len(first.seen) == steps
    fit(tmp_path / "parts", IterationCheckpoint(), rest, **options)
    assert first.seen + rest.seen == reference.seen
    assert first.validated + rest.validated == reference.validated
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_limit_of_batches_ends_an_epoch_and_one_of_steps_interrupts_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"limit_train_batches": 5}
    reference = fit(tmp_path / "whole", IterationCheckpoint(), **options).seen
    assert len(reference) == 15
    seen = [s for n in (5, 8, -1) for s in fit(tmp_path / "parts", IterationCheckpoint(), max_steps=n, **options).seen]
    assert seen == reference
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_the_end_of_a_fit_is_saved_whatever_the_interval(tmp_path: Path, whole: Path) -> None:
    fit(tmp_path, IterationCheckpoint(every=2), max_epochs=1)
    assert len(fit(tmp_path, IterationCheckpoint(every=2)).seen) == 14
    assert_same(whole, tmp_path)


def test_what_is_no_checkpoint_of_the_model_is_one_sentence(
    evolve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = evolve.settings()
    del settings["rollout"]
    settings["data"]["init_args"] |= {
        "train": {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "seed", "size": 4}},
        "validation": None,
    }
    config, policy = str(evolve.write(settings)), tmp_path / "run"
    for path, content in (("mprm.ckpt", {"mstar": {"kind": "mprm"}}), ("other.ckpt", {})):
        torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.0"} | content, tmp_path / path)
    (tmp_path / "empty").mkdir()
    last = policy / "checkpoints/last.ckpt"

    def refused(path: Path | str, sentence: str) -> None:
        assert main(["test", "--config", config, "--ckpt_path", str(path)]) == 1
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"mstar test: error: {sentence}")

    refused("last", f"ckpt_path is 'last', but '{last.parent}' has no checkpoint: ")
    assert main(["fit", "--config", config, "--trainer.max_epochs", "1"]) == 0
    refused(tmp_path / "mprm.ckpt", "the checkpoint is of an MPRM, but model is a policy: ")
    refused(tmp_path / "other.ckpt", "the checkpoint is of something that mstar did not train, but model is a policy: ")
    saved = torch.load(last, weights_only=True)
    name = next(name for name, value in saved["state_dict"].items() if value.ndim == 2)
    saved["state_dict"][name] = saved["state_dict"][name][1:]
    torch.save(saved, tmp_path / "smaller.ckpt")
    refused(
        tmp_path / "smaller.ckpt", "the checkpoint's weights do not fit the model: set model.model_name to the one "
    )
    refused(policy, f"ckpt_path '{policy}' is a folder: give '{last}', which is in it.")
    refused(last.parent, f"ckpt_path '{last.parent}' is a folder: give '{last}', which is in it.")
    refused(policy / "policy", f"ckpt_path '{policy / 'policy'}' is an exported model: give it as model.model_name, ")
    refused(tmp_path / "empty", f"ckpt_path '{tmp_path / 'empty'}' is a folder without a checkpoint: ")
    refused(tmp_path / "none", f"ckpt_path '{tmp_path / 'none'}' does not exist: ")
    refused("best", "ckpt_path is 'best', but ")
    assert main(["test", "--config", config, "--ckpt_path", "last"]) == 0


def test_a_checkpoint_that_is_written_later_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.plugins has AsyncCheckpointIO, which .*: drop it"):
        fit(tmp_path, IterationCheckpoint(), plugins=[AsyncCheckpointIO()])
