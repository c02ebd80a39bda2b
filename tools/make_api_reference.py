#!/usr/bin/env python3
"""Writes the part of docs/reference/api.md below its marker from src/control/api/openapi.yaml: every path with its
parameters, bodies and answers, every object with its fields, their types, ranges and meaning.

make_api_reference.py          writes it
make_api_reference.py --check  exits 1 if what stands there is not what would be written
"""
import json
import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/control/api/openapi.yaml"
PAGE = ROOT / "docs/reference/api.md"
MARKER = "<!-- Made by tools/make_api_reference.py from here on; edit src/control/api/openapi.yaml instead. -->\n"


class Reference:
    def __init__(self, description):
        self.paths = description["paths"]
        self.components = description["components"]
        self.schemas = self.components["schemas"]

    # ---- Types in words ----------------------------------------------------------------------------------------------

    def resolved(self, schema):
        """(name or None, schema): a reference is followed, `allOf` of one is that one."""
        if "allOf" in schema and len(schema["allOf"]) == 1:
            name, inner = self.resolved(schema["allOf"][0])
            return name, {**inner, **{key: value for key, value in schema.items() if key != "allOf"}}
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return name, self.schemas[name]
        return None, schema

    def type_text(self, schema):
        name, plain = self.resolved(schema)
        kind = plain.get("type")
        if kind == "object" and name:
            text = f"[{name}](#{name.lower()})"
        elif "anyOf" in plain:
            text = " or ".join(self.type_text(choice) for choice in plain["anyOf"])
        elif kind == "array":
            text = "list of " + self.type_text(plain["items"])
        elif "enum" in plain:
            text = ", ".join(f"`{value}`" for value in plain["enum"] if value is not None)
        elif kind == "integer":
            text = "whole number" + self.range_text(plain)
        elif kind == "string":
            like = plain.get("example", plain.get("pattern"))
            text = "text" + self.length_text(plain) + (f" like `{like}`" if like else "")
        elif kind == "boolean":
            text = "`true`, `false`"
        else:
            text = "object"
        return text + (" or null" if plain.get("nullable") else "")

    @staticmethod
    def range_text(schema):
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and high is not None:
            return f", {low} to {high}"
        return f", from {low}" if low is not None else ""

    @staticmethod
    def length_text(schema):
        low, high = schema.get("minLength"), schema.get("maxLength")
        if high is not None:
            return f" of {low or 0} to {high} characters"
        return f" of at least {low} characters" if low else ""

    def meaning(self, schema):
        _, plain = self.resolved(schema)
        words = plain.get("description", "").strip()
        if "default" in plain:
            words += f"{' ' if words else ''}Default `{json.dumps(plain['default']).strip(chr(34))}`."
        return words

    # ---- Fields ------------------------------------------------------------------------------------------------------

    def rows(self, schema, prefix=""):
        """(name, type, required, meaning) of each field; those of an object without a name of its own follow it."""
        required = schema.get("required", [])
        for field, value in schema.get("properties", {}).items():
            name, plain = self.resolved(value)
            yield prefix + field, self.type_text(value), field in required, self.meaning(value)
            if name is None and plain.get("type") == "object":
                yield from self.rows(plain, f"{prefix}{field}.")
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            keys = required or ["NAME"]
            for key in keys:
                yield prefix + key, self.type_text(extra), bool(required), self.meaning(extra)

    def schema_section(self, name, schema):
        lines = [f"### {name}", ""]
        if schema.get("description"):
            lines += [schema["description"].strip(), ""]
        if schema.get("type") == "object":
            lines += table(("field", "type", "required", "meaning"),
                           [(f"`{field}`", kind, "yes" if must else "no", text)
                            for field, kind, must, text in self.rows(schema)])
        else:
            lines += [self.type_text(schema)[0].upper() + self.type_text(schema)[1:] + ".", ""]
        return lines

    # ---- Paths -------------------------------------------------------------------------------------------------------

    def parameter(self, parameter):
        if "$ref" in parameter:
            parameter = self.components["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
        meaning = parameter.get("description", "").strip()
        default = parameter["schema"].get("default")
        if default is not None:
            meaning += f"{' ' if meaning else ''}Default `{default}`."
        return (f"`{parameter['name']}`", parameter["in"],
                self.type_text({key: value for key, value in parameter["schema"].items() if key != "default"}), meaning)

    def content_text(self, content):
        return "; ".join(f"`{kind}`: {self.named(value['schema'])}" for kind, value in content.items())

    def named(self, schema):
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            return f"[{name}](#{name.lower()})"
        return self.type_text(schema)

    def method_section(self, path, method, described, shared):
        lines = [f"### {method.upper()} {path}", "", described["summary"], ""]
        if described.get("description"):
            lines += [described["description"].strip(), ""]
        parameters = [*shared, *described.get("parameters", [])]
        if parameters:
            lines += table(("parameter", "in", "type", "meaning"), [self.parameter(each) for each in parameters])
        if "requestBody" in described:
            lines += ["Body: " + self.content_text(described["requestBody"]["content"]) + ".", ""]
        refusals = []
        for status, answer in described["responses"].items():
            if "$ref" in answer:
                refusals.append(status)
                continue
            content = self.content_text(answer["content"]) if "content" in answer else "nothing"
            lines.append(f"- {status}, {answer['description'].strip()}: {content}")
        if refusals:
            lines.append(f"- {', '.join(refusals)}, refused, and nothing was changed: [Error](#error)")
        return [*lines, ""]

    def without_meaning(self):
        """Fields that openapi.yaml does not describe."""
        return [f"{name}.{field}" for name, schema in self.schemas.items() for field, _, _, text in self.rows(schema)
                if not text]

    def text(self):
        lines = ["## Paths", ""]
        for path, methods in self.paths.items():
            for method, described in methods.items():
                if method != "parameters":
                    lines += self.method_section(path, method, described, methods.get("parameters", []))
        lines += ["## Objects", "", "A required field is always in an answer, and has to be in a request.", ""]
        for name, schema in self.schemas.items():
            lines += self.schema_section(name, schema)
        return "\n".join(lines).rstrip("\n") + "\n"


def table(titles, rows):
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |")
    return [*lines, ""]


def main():
    page = PAGE.read_text()
    written, marker, _ = page.partition(MARKER)
    if not marker:
        print(f"{PAGE.relative_to(ROOT)} has lost its marker: {MARKER.strip()}")
        return 1
    reference = Reference(yaml.safe_load(SOURCE.read_text()))
    missing = reference.without_meaning()
    if missing:
        print(f"{SOURCE.relative_to(ROOT)} does not say what these fields mean; give each a description: "
              + ", ".join(missing))
        return 1
    wanted = written + MARKER + "\n" + reference.text()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted)
    elif page != wanted:
        print(f"{PAGE.relative_to(ROOT)} is not what {SOURCE.relative_to(ROOT)} says; run tools/make_api_reference.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
