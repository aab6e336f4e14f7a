"""For jobs with Hugging Face's Trainer: report each evaluation to the trial, and stop when the study prunes it.

trainer = Trainer(model, args, ..., callbacks=[ReportToTrial()])
"""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import sweep


class ReportToTrial(TrainerCallback):
    """A callback that reports the metrics of each evaluation, with the number of optimizer steps so far.

    Reported are those that the job names, `eval_loss` among them if it does; all of them if it names none. A study that
    wants no more steps stops the Trainer as EarlyStoppingCallback does: a checkpoint is saved, unless
    `save_strategy="no"`, and `train` returns. Once the job's function has returned, its trial counts as pruned.
    """

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any
    ) -> TrainerControl:
        """Report the evaluation's metrics to the trial, and stop the Trainer if the study wants no more."""
        trial = sweep.trial()
        measured = facts["metrics"]
        wanted = trial.job.metrics or measured
        metrics = {name: value for name, value in measured.items() if name in wanted and isinstance(value, int | float)}
        try:
            trial.report(state.global_step, metrics, of=state.max_steps)
        except sweep.Stopped:
            control.should_training_stop = True
            control.should_save = str(args.save_strategy) != "no"
        return control
