"""For jobs in Lightning: report each epoch to the trial, and stop the Trainer when the study prunes it.

trainer = L.Trainer(max_epochs=10, callbacks=[ReportToTrial()])
"""

import warnings

import lightning as L

import sweep

# Lightning 2.6 says so of itself in each training, beside newer versions of torch.
warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")


class ReportToTrial(L.Callback):
    """A callback that reports the metrics of each validation, or of each epoch where there is none.

    Of what the module has logged with `self.log`, those metrics are reported that the job names; all if it names none.
    A study that wants no more epochs stops the Trainer as EarlyStopping does: checkpoints are saved, and `fit` returns.
    Once the job's function has returned, its trial counts as pruned.

    The Trainer must train in the job's own process, on one device.
    """

    def __init__(self) -> None:
        self._has_validated = False

    def on_validation_end(self, trainer: L.Trainer, *_: L.LightningModule) -> None:
        """Note that validation has run in this epoch, so that its metrics are reported."""
        self._has_validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: L.Trainer, *_: L.LightningModule) -> None:
        """Report the epoch's metrics to the trial, and stop the Trainer if the study wants no more."""
        if trainer.enable_validation and not self._has_validated:  # what is there is of an epoch before
            return
        self._has_validated = False
        trial = sweep.trial()
        logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
        metrics = {name: value for name, value in logged.items() if name in (trial.job.metrics or logged)}
        last = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        try:
            trial.report(trainer.current_epoch + 1, metrics, of=last)
        except sweep.Stopped:
            trainer.should_stop = True
