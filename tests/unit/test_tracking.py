"""Tracking a training with MLflow: its package is replaced by one that keeps runs in memory."""

from types import SimpleNamespace

import pytest
from ignite.engine import Engine, Events
from monai.handlers import mlflow_handler

from unetpp_monai.errors import InputError
from unetpp_monai.workflows.training_run import Run, _track, check_mlflow


class Client:
    """The calls of MLflow's client that MONAI's handler makes."""

    runs = None  # by number, of each test

    def __init__(self, tracking_uri=None):
        self.tracking_uri = tracking_uri

    def get_experiment_by_name(self, name):
        return SimpleNamespace(name=name, experiment_id=name, lifecycle_stage="active")

    def search_runs(self, experiment):
        return list(self.runs.values())

    def create_run(self, experiment_id, run_name):
        key = str(len(self.runs))
        info = SimpleNamespace(run_id=key, run_name=run_name, status="RUNNING", experiment=experiment_id)
        self.runs[key] = SimpleNamespace(info=info, data=SimpleNamespace(params={}, metrics={}))
        return self.runs[key]

    def get_run(self, key):
        return self.runs[key]

    def log_batch(self, run_id, metrics, params, tags):
        data = self.runs[run_id].data
        data.params.update({each.key: each.value for each in params})
        data.metrics.update({each.key: each.value for each in metrics})

    def set_terminated(self, key, status):
        self.runs[key].info.status = status


def _entity(key, value, *_):
    return SimpleNamespace(key=key, value=value)


@pytest.fixture
def runs(monkeypatch):
    entities = SimpleNamespace(
        RunStatus=SimpleNamespace(FINISHED="FINISHED", to_string=str),
        LifecycleStage=SimpleNamespace(ACTIVE="active"),
        Metric=_entity,
        Param=_entity,
    )
    monkeypatch.setattr(mlflow_handler, "mlflow", SimpleNamespace(MlflowClient=Client, entities=entities))
    monkeypatch.setattr(Client, "runs", {})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Client.runs


def engines(fail=False):
    def step(engine, _):
        if fail:
            raise InterruptedError
        return [{"loss": 0.5}]

    trainer, evaluator = Engine(step), Engine(lambda engine, _: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(dice=0.25))
    return trainer, evaluator


def test_a_run_is_finished_after_its_training(runs, tmp_path):
    run = Run(SimpleNamespace(name="organ"), tmp_path / "fold0", {}, mlflow=f"sqlite:///{tmp_path}/a.db")
    interrupted = engines(fail=True)
    _track(run, *interrupted)
    with pytest.raises(InterruptedError):
        interrupted[0].run([0], max_epochs=2)
    assert [each.info.status for each in runs.values()] == ["RUNNING"]  # it goes on
    resumed = engines()
    _track(run, *resumed)
    resumed[0].run([0], max_epochs=2)
    (found,) = runs.values()
    assert (found.info.status, found.info.run_name, found.info.experiment) == ("FINISHED", "fold0", "organ")
    assert found.data.metrics["train_loss"] == 0.5 and found.data.metrics["dice"] == 0.25


@pytest.mark.parametrize("address", ["runs", "/data/runs", "file:///data/runs"])
def test_a_folder_tracks_no_run(address):
    with pytest.raises(InputError, match="a server or a database such as sqlite") as found:
        check_mlflow(address)
    assert found.value.option == "mlflow"
    check_mlflow("")
