from pathlib import Path

import pytest

from sweep.files import replacing


def test_a_file_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "results.yaml"
    with replacing(path) as part:
        part.write_text("first")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text("half of the sec")
        _ = 1 / 0
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["results.yaml"]
