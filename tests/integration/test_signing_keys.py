"""The file of the keys that servers sign requests with."""

import base64
from pathlib import Path

import pytest

from adapters.http.signatures import SigningKey, read_keys

SECRET = base64.b64encode(b"s" * 32).decode()


def _file(folder: Path, text: str) -> Path:
    path = folder / "keys.toml"
    path.write_text(text)
    return path


def test_a_file_has_one_table_a_key(tmp_path: Path) -> None:
    keys = read_keys(
        _file(
            tmp_path,
            f'[billing]\nsecret = "{SECRET}"\nowner = "acme"\n\n["backend 2"]\nsecret = "{SECRET}"\nany_owner = true\n',
        )
    )
    assert keys == {
        "billing": SigningKey(secret=b"s" * 32, owner="acme"),
        "backend 2": SigningKey(secret=b"s" * 32, any_owner=True),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no keys"),
        ("[a", "is no TOML file"),
        ("a = 1", "key 'a': Expected `object`"),
        (f'[a]\nsecret = "{SECRET}"', "key 'a' needs owner"),
        (f'[a]\nsecret = "{SECRET}"\nowner = "x"\nany_owner = true', "key 'a' needs owner"),
        (f'[a]\nsecret = "{SECRET}"\nowner = "a b"', "key 'a': user_id must be"),
        (f'[a]\nsecret = "{SECRET}"\nowner = "x"\nowners = ["y"]', "key 'a': Object contains unknown field `owners`"),
        ('[a]\nowner = "x"', "key 'a': Object missing required field `secret`"),
        ('[a]\nowner = "x"\nsecret = "c2hvcnQ="', "key 'a': Expected `bytes` of length >= 32"),
        ('[a]\nowner = "x"\nsecret = "no base64"', "key 'a': Invalid base64"),
    ],
)
def test_a_file_that_says_nothing_sensible_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"keys\.toml") as refused:
        read_keys(_file(tmp_path, text))
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be read"):
        read_keys(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="can't be read"):
        read_keys(tmp_path)
