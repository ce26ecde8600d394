"""Rewrites a file of events as other programs do, once for each kind of change.

Usage: rewrite_file.py FILE FOLDER

Each kind becomes FOLDER/<name>.parquet with the same events, in any order.
"""

import sys
import uuid
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def cast(table, **types):
    for name, kind in types.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pc.cast(table[name], kind, safe=False))
    return table


def with_ids(table, values, kind=None):
    return table.set_column(table.schema.get_field_index("event_id"), "event_id", pa.array(values, kind))


def ids(table):
    return [uuid.UUID(text) for text in table["event_id"].to_pylist()]


def by_pyarrow(table, folder):
    def write(name, changed=table, **options):
        pq.write_table(changed, folder / f"{name}.parquet", **options)

    for codec in ("none", "snappy", "gzip", "lz4", "brotli", "zstd"):
        write(f"codec_{codec}", compression=codec)
        write(f"codec_{codec}_pages_v2", compression=codec, data_page_version="2.0")
    encodings = {"event_id": "DELTA_BYTE_ARRAY", "category": "DELTA_LENGTH_BYTE_ARRAY", "user_id": "DELTA_BINARY_PACKED"}
    write("encodings", use_dictionary=False, column_encoding=encodings)
    split = {"user_id": "BYTE_STREAM_SPLIT", "event_timestamp": "BYTE_STREAM_SPLIT"}
    write("byte_stream_split", use_dictionary=False, column_encoding=split)
    write("page_checksums", write_page_checksum=True)
    write("page_index", write_page_index=True, row_group_size=100)
    write("int96", use_deprecated_int96_timestamps=True)
    write("nanoseconds", cast(table, event_timestamp=pa.timestamp("ns", "UTC")))
    write("nanoseconds_without_zone", cast(table, event_timestamp=pa.timestamp("ns")))
    write("microseconds_without_zone", cast(table, event_timestamp=pa.timestamp("us")))
    write("another_zone", cast(table, event_timestamp=pa.timestamp("us", "America/New_York")))
    write("format_1_0", version="1.0")
    write("int64", cast(table, user_id=pa.int64(), account_id=pa.uint32(), product_id=pa.uint64()))
    write("int16", cast(table, user_id=pa.int16(), account_id=pa.int8(), product_id=pa.uint16()))
    write("decimals", cast(table, user_id=pa.decimal128(38, 0), account_id=pa.decimal128(10, 0)))
    write("doubles", cast(table, user_id=pa.float64()))
    write("uuid_upper_case", with_ids(table, [str(id).upper() for id in ids(table)]))
    write("uuid_fixed_bytes", with_ids(table, [id.bytes for id in ids(table)], pa.binary(16)))
    write("uuid_bytes", with_ids(table, [id.bytes for id in ids(table)], pa.binary()))
    write("uuid_type", with_ids(table, [id.bytes for id in ids(table)], pa.uuid()))
    write("large_string", cast(table, category=pa.large_string(), event_id=pa.large_string()))
    write("string_view", cast(table, category=pa.string_view()))
    write("dictionary", table.set_column(2, "event_type", table["event_type"].dictionary_encode()))
    write("binary", cast(table, category=pa.binary(), event_type=pa.binary()))
    write("upper_case", table.rename_columns([name.upper() for name in table.column_names]))
    reversed_columns = table.append_column("_loaded_at", pa.array([1] * len(table)))
    write("order_and_more_columns", reversed_columns.select(list(reversed(reversed_columns.column_names))))
    partition = table.append_column("event_date", pa.array(["2026-11-22"] * len(table)))
    write("partition_columns_inside", partition.append_column("hour", pa.array([9] * len(table))))
    write("nullable", table.cast(pa.schema([field.with_nullable(True) for field in table.schema])))
    write("sorted_with_kept_metadata", table.sort_by([("user_id", "descending")]))
    halves = pa.concat_tables([table.slice(len(table) // 2), table.slice(0, len(table) // 2)])
    write("merged_with_kept_metadata", halves.replace_schema_metadata(table.schema.metadata))
    write("a_list_beside", table.append_column("tags", pa.array([["a", "b"]] * len(table))))


def by_duckdb(file, folder):
    database = duckdb.connect()
    database.execute("set TimeZone = 'UTC'")
    for codec in ("snappy", "zstd", "gzip", "brotli", "lz4_raw", "uncompressed"):
        target = folder / f"duckdb_{codec}.parquet"
        database.execute(f"copy (from read_parquet('{file}')) to '{target}' (format parquet, codec '{codec}')")
    target = folder / "duckdb_uuid_v2.parquet"
    query = f"select * replace (event_id::uuid as event_id, user_id::bigint as user_id) from read_parquet('{file}') order by category"
    database.execute(f"copy ({query}) to '{target}' (format parquet, parquet_version v2)")


def main():
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    table = pq.ParquetFile(file).read()
    assert b"content_hash" in table.schema.metadata
    by_pyarrow(table, folder)
    by_duckdb(file, folder)


main()
