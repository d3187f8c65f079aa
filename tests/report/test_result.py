"""result.json is what its schema says, and every field there is described."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from research.report import result
from research.runtime.errors import UserError

SCHEMA = json.loads((Path(result.__file__).parent / "result.schema.json").read_text())


def fields(schema):
    """Every property in a schema, with its name."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            yield from fields(value)


def test_the_schema_is_one_and_describes_every_field():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == result.SCHEMA_VERSION
    known = [(name, field) for name, field in fields(SCHEMA) if isinstance(field, dict)]
    assert len(known) > 100
    by_reference = {"point", "train", "valid", "test"}
    assert [n for n, field in known if "description" not in field and n not in by_reference] == []


def test_a_result_fits_and_one_with_a_field_too_many_does_not(full_result):
    contents = json.loads(json.dumps(full_result))
    jsonschema.validate(contents, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(contents | {"more": 1}, SCHEMA)


def test_a_result_of_an_earlier_version_is_an_error_of_one_line(tmp_path):
    (tmp_path / "result.json").write_text('{"schema_version": 1}')
    with pytest.raises(UserError, match="of version 1, and this code reads 2") as error:
        result.read(tmp_path)
    assert "\n" not in str(error.value)


def test_the_report_reads_results_only():
    """No classifier, no data, no training: what a page shows lies in the run's folder."""
    allowed = r"research\.(report|metrics|runtime|diagnosis\.verdict)\b"
    for path in sorted(Path(result.__file__).parent.glob("*.py")):
        for name in re.findall(
            r"^\s*(?:from|import) (research[\w.]*)", path.read_text(), re.MULTILINE
        ):
            assert name == "research" or re.match(allowed, name), f"{path.name} imports {name}"
