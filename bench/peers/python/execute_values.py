"""Loads Kafka into PostgreSQL with kafka-python and psycopg2's execute_values, as many tutorials do."""

import json
import os
from operator import itemgetter

import psycopg2
from kafka import KafkaConsumer
from psycopg2.extras import execute_values

COLUMNS = os.environ["COLUMNS"].split(", ")
BATCH = 5_000

keyed = os.environ["KEYED"] == "1"
fields = itemgetter(*COLUMNS)

# kafka-python uses the package crc32c if it is installed. Otherwise it computes checksums in Python.
consumer = KafkaConsumer(
    os.environ["TOPIC"],
    bootstrap_servers=os.environ["BOOTSTRAP_SERVERS"],
    group_id=os.environ["GROUP"],
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    max_poll_records=BATCH,
    max_partition_fetch_bytes=4 << 20,
)
database = psycopg2.connect(os.environ["DSN"])
insert = f"INSERT INTO {os.environ['TABLE']} ({', '.join(COLUMNS)}) VALUES %s"
if keyed:
    insert += " ON CONFLICT DO NOTHING"

while True:
    polled = consumer.poll(timeout_ms=1_000, max_records=BATCH)
    rows = [fields(json.loads(record.value)) for records in polled.values() for record in records]
    if rows:
        with database.cursor() as cursor:
            execute_values(cursor, insert, rows, page_size=1_000)
        database.commit()
        consumer.commit()
