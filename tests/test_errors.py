import pickle

import pytest

from sweep.errors import SweepError, explain, in_one_line, without_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:planted@host:5000/x", "http://***@host:5000/x"),
        ("http://me:p@planted@host", "http://***@host"),
        ("postgresql+psycopg://me:planted%40x/y@host/db", "postgresql+psycopg://***@host/db"),
        ("http://planted@host", "http://***@host"),
        ("redis://:planted@host", "redis://***@host"),
        ("postgresql:/me:planted@host/db", "***@host/db"),
        ("postgresql//me:planted@host", "postgresql//***@host"),
        ("postgresql:///me:planted@host", "postgresql:///***@host"),
        ("storage=me:planted@host", "storage=***@host"),
        ("['mysql://me:planted@a', 'mysql://me:planted@b']", "['mysql://***@a', 'mysql://***@b']"),
        ("a://b/c?user=me&password=planted&x=1", "a://b/c?user=me&password=***&x=1"),
        ("host=h sslpassword=planted dbname=d", "host=h sslpassword=*** dbname=d"),
        ("https://h/?access_token=planted#x", "https://h/?access_token=***"),
        ("Authorization: Bearer planted", "Authorization: Bearer ***"),
    ],
)
def test_passwords_and_tokens_are_masked(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert without_password(shown) == shown
    told = [str(SweepError(text)), str(pickle.loads(pickle.dumps(SweepError(text)))), in_one_line(ValueError(text))]
    assert told == [shown] * 3
    assert "planted" not in str(explain(ValueError(f"Config group override {text}")))


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////a/b.db",
        "models:/digits@champion",
        "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=mine",
        "model.num_tokens=5: see git@github.com:a/b, or write to me@host at 12:30",
    ],
)
def test_what_is_no_password_is_shown(text: str) -> None:
    assert without_password(text) == text
