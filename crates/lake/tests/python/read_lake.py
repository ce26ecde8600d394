"""Reads a lake with pyarrow and DuckDB and compares it with what was written.

Usage: read_lake.py FOLDER EXPECTED.json

EXPECTED.json has {"events": [...], "quarantine": [...], "hashes": {key: content hash}, "schema": the JSON schema of events,
"dictionary": [name, ...]}; each row is a JSON object that also has event_date and hour, the partition it must be found in.
"""

import hashlib
import json
import struct
import sys
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

UTC_MICROS = pa.timestamp("us", tz="UTC")
QUARANTINE_TYPES = {
    "event_index": pa.int64(),
    "due": UTC_MICROS,
    "raw": pa.string(),
    "reason_codes": pa.list_(pa.string()),
    "fields": pa.list_(pa.string()),
}
DUCKDB_TYPES = {
    pa.string(): "VARCHAR",
    UTC_MICROS: "TIMESTAMP WITH TIME ZONE",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.list_(pa.string()): "VARCHAR[]",
}
PARTITIONS = ds.partitioning(pa.schema([("event_date", pa.string()), ("hour", pa.string())]), flavor="hive")


def event_types(schema):
    """The columns of a file of events and their types, by the JSON schema."""

    def kind(field):
        if field["type"] == "integer":
            return pa.int32()
        return UTC_MICROS if field.get("format") == "date-time" else pa.string()

    return {name: kind(schema["properties"][name]) for name in schema["x-columns"]}


def equal(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


def plain(value):
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value


def in_order(rows, names, first):
    rows = [{name: plain(row[name]) for name in names} for row in rows]
    return sorted(rows, key=lambda row: row[first])


def check_footer(folder, key, expected_hash, types, dictionary, defaults):
    file = pq.ParquetFile(folder / key)
    equal(f"{key}: columns and types", {f.name: same_list(f.type) for f in file.schema_arrow}, types)
    equal(f"{key}: nullable columns", [f.name for f in file.schema_arrow if f.nullable], [])
    equal(f"{key}: content hash in the footer", file.metadata.metadata[b"content_hash"].decode(), expected_hash)
    equal(f"{key}: content hash of the rows", content_hash(file.read(), defaults), expected_hash)
    for group in range(file.metadata.num_row_groups):
        for number in range(file.metadata.num_columns):
            column = file.metadata.row_group(group).column(number)
            where = f"{key}: row group {group}, {column.path_in_schema}"
            equal(f"{where}: compression", column.compression, "ZSTD")
            if column.num_values and column.path_in_schema != "fields.list.element":
                equal(f"{where}: statistics", column.statistics and column.statistics.has_min_max, True)
            # The dictionary of many numbers grew too large and was given up; the list of fields may be empty.
            kind = types.get(column.path_in_schema, pa.string())
            if not pa.types.is_integer(kind) and column.path_in_schema != "fields.list.element":
                equal(f"{where}: dictionary", column.has_dictionary_page, column.path_in_schema in dictionary)
    stamp = "event_timestamp" if "event_timestamp" in types else "due"
    logical = json.loads(file.schema.column(file.schema_arrow.get_field_index(stamp)).logical_type.to_json())
    equal(f"{key}: {stamp} is adjusted to UTC", (logical["isAdjustedToUTC"], logical["timeUnit"]), (True, "microseconds"))


def same_list(kind):
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind


def content_hash(table, defaults):
    """The canonical form as crates/lake/src/content_hash.rs describes it, made anew from the description."""
    full = [name for name in table.column_names if name not in defaults or set(table[name].to_pylist()) != {defaults[name]}]
    table = table.select(full)

    def sha(data):
        return hashlib.sha256(data).digest()

    def strings(values):
        values = [value.encode() for value in values]
        return sha(b"".join(struct.pack("<I", len(value)) for value in values)) + sha(b"".join(values))

    whole = b"lake content 1\n" + struct.pack("<Q", table.num_rows)
    for name, column in zip(table.column_names, table.columns):
        if column.type == pa.int32():
            tag, digests = b"i", sha(b"".join(struct.pack("<i", value) for value in column.to_pylist()))
        elif column.type == pa.int64():
            tag, digests = b"l", sha(b"".join(struct.pack("<q", value) for value in column.to_pylist()))
        elif column.type == UTC_MICROS:
            micros = column.cast(pa.int64()).to_pylist()
            tag, digests = b"t", sha(b"".join(struct.pack("<q", value) for value in micros))
        elif column.type == pa.string():
            tag, digests = b"s", strings(column.to_pylist())
        else:
            rows = column.to_pylist()
            counts = sha(b"".join(struct.pack("<I", len(row)) for row in rows))
            tag, digests = b"a", counts + strings([text for row in rows for text in row])
        whole += struct.pack("<I", len(name.encode())) + name.encode() + tag + digests
    return hashlib.sha256(whole).hexdigest()


def check_pyarrow(folder, expected, types):
    dataset = ds.dataset(folder, format="parquet", partitioning=PARTITIONS)
    found = {field.name: same_list(field.type) for field in dataset.schema}
    equal("pyarrow: types", found, types | {"event_date": pa.string(), "hour": pa.string()})
    names, first = list(found), next(iter(types))
    equal("pyarrow: rows", in_order(dataset.to_table().to_pylist(), names, first), in_order(expected, names, first))
    part = dataset.to_table(filter=ds.field("hour") == "09")
    equal("pyarrow: rows of one hour", part.num_rows, sum(row["hour"] == "09" for row in expected))


def check_duckdb(folder, expected, types):
    database = duckdb.connect()
    database.execute("set TimeZone = 'UTC'")
    files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true%s)"
    described = database.execute("describe from " + files % ", hive_types = {'hour': VARCHAR}").fetchall()
    wanted = {name: DUCKDB_TYPES[kind] for name, kind in types.items()}
    equal("DuckDB: types", {row[0]: row[1] for row in described}, wanted | {"event_date": "DATE", "hour": "VARCHAR"})
    # As text, because fetching times with a zone would need one package more.
    stamp = "event_timestamp" if "event_timestamp" in types else "due"
    text = f"strftime({stamp}, '%Y-%m-%dT%H:%M:%S.%fZ') as {stamp}, event_date::text as event_date"
    query = f"select * replace ({text}) from " + files % ", hive_types = {'hour': VARCHAR}"
    result = database.execute(query)
    names = [column[0] for column in result.description]
    rows = [dict(zip(names, row)) for row in result.fetchall()]
    first = next(iter(types))
    equal("DuckDB: rows", in_order(rows, names, first), in_order(expected, names, first))
    count = database.execute("select count(*) from " + files % "" + " where hour = 9").fetchone()[0]
    equal("DuckDB: rows of one hour", count, sum(row["hour"] == "09" for row in expected))


def main():
    lake = Path(sys.argv[1])
    expected = json.loads(Path(sys.argv[2]).read_text())
    properties = expected["schema"]["properties"]
    defaults = {name: field["default"] for name, field in properties.items() if "default" in field}
    lists = ["reason_codes.list.element", "fields.list.element"]
    for part, types, dictionary, defaults in (
        ("raw", event_types(expected["schema"]), expected["dictionary"], defaults),
        ("quarantine", QUARANTINE_TYPES, lists, {}),
    ):
        rows = expected["events" if part == "raw" else "quarantine"]
        equal(f"rows expected in {part}", bool(rows), True)
        keys = [key for key in expected["hashes"] if key.startswith(part)]
        there = sorted(path.relative_to(lake).as_posix() for path in (lake / part).rglob("*.parquet"))
        equal(f"files in {part}", there, sorted(keys))
        for key in keys:
            check_footer(lake, key, expected["hashes"][key], types, dictionary, defaults)
        check_pyarrow(lake / part, rows, types)
        check_duckdb(lake / part, rows, types)
    print(f"{len(expected['events'])} events and {len(expected['quarantine'])} refused values read")


main()
