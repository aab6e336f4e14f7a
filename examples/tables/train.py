"""Predict how far diabetes progresses within a year, from scikit-learn's table of 442 patients, by boosted trees."""

import hydra
import mlflow
import sklearn
from omegaconf import DictConfig
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

import sweep


@hydra.main(config_path="conf", config_name="config")
@sweep.Job(metrics={"val/rmse": sweep.Metric(direction="minimize", decimals=2)}, seed="seed", step="stage")
def main(cfg: DictConfig) -> None:
    """Add trees in stages, and report after each of them."""
    x, y = load_diabetes(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, random_state=0)
    model = GradientBoostingRegressor(**cfg.model, random_state=cfg.seed, warm_start=True)
    for stage in range(1, cfg.stages + 1):
        model.set_params(n_estimators=stage * cfg.trees_per_stage).fit(x_train, y_train)
        rmse = root_mean_squared_error(y_val, model.predict(x_val))
        sweep.trial().report(stage, {"val/rmse": rmse}, of=cfg.stages)
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=mlflow.models.infer_signature(x_val, y_val),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )


if __name__ == "__main__":
    main()
