"""Loads Kafka into PostgreSQL with confluent-kafka: batches, COPY, then the offsets, as many teams write it.

Rows of the keyed table pass through a temporary table, so that records delivered again after a crash change nothing.
"""

import csv
import io
import os
from operator import itemgetter

import orjson
import psycopg
from confluent_kafka import Consumer, KafkaException

COLUMNS = os.environ["COLUMNS"].split(", ")
BATCH = 20_000

table = os.environ["TABLE"]
keyed = os.environ["KEYED"] == "1"
fields = itemgetter(*COLUMNS)

consumer = Consumer(
    {
        "bootstrap.servers": os.environ["BOOTSTRAP_SERVERS"],
        "group.id": os.environ["GROUP"],
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        # With the default of 1 s, librdkafka pauses after its queue was full.
        "fetch.queue.backoff.ms": 5,
        "queued.min.messages": 1_000_000,
    }
)
consumer.subscribe([os.environ["TOPIC"]])
database = psycopg.connect(os.environ["DSN"])
with database.cursor() as cursor:
    cursor.execute(f"CREATE TEMPORARY TABLE batch (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS")
database.commit()

target = "batch" if keyed else table
copy_in = f"COPY {target} ({', '.join(COLUMNS)}) FROM STDIN WITH (FORMAT csv)"
merge = f"INSERT INTO {table} SELECT * FROM batch ON CONFLICT DO NOTHING"

while True:
    records = consumer.consume(BATCH, timeout=1)
    if not records:
        continue
    for record in records:
        if record.error():
            raise KafkaException(record.error())
    text = io.StringIO()
    csv.writer(text).writerows(fields(orjson.loads(record.value())) for record in records)
    with database.cursor() as cursor:
        with cursor.copy(copy_in) as copy:
            copy.write(text.getvalue())
        if keyed:
            cursor.execute(merge)
    database.commit()
    consumer.commit(asynchronous=False)
