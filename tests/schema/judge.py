"""Judges documents by a JSON Schema, with Python's jsonschema:

  judge.py SCHEMA FILE...       is each file valid? A line for each that is not, or cannot be read.

The schema itself is judged first. A file ending in .toml is read as an editor's plugin does: TOML's values as JSON's.
"""
import json
import pathlib
import sys
import tomllib

import jsonschema


def read(path):
    text = pathlib.Path(path).read_bytes()
    return tomllib.loads(text.decode("utf-8")) if path.endswith(".toml") else json.loads(text)


def verdict(validator, path):
    try:
        document = read(path)
    except ValueError as problem:
        return "cannot be read: %s" % problem
    problem = jsonschema.exceptions.best_match(validator.iter_errors(document))
    return problem and "%s: %s" % (problem.json_path, problem.message)


if __name__ == "__main__":
    schema = read(sys.argv[1])
    jsonschema.Draft202012Validator.check_schema(schema)
    judge = jsonschema.Draft202012Validator(schema)
    for file in sys.argv[2:]:
        said = verdict(judge, file)
        if said:
            print("%s\t%s" % (file, said.replace("\n", " ")))
