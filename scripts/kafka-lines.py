#!/usr/bin/env python3
"""Prints each message of a Kafka topic as a line of JSON, from the first one on, and goes on: kafka-lines.py HOST:PORT TOPIC.

The lines are as `tidegate journal cat --json` writes them, made from what the sink `kafka` sends; the first one,
`{"ready": true}`, says that the broker is there.
"""

import base64
import json
import sys
import time

from kafka import KafkaConsumer
from kafka.errors import KafkaError


def follow(address: str, topic: str) -> KafkaConsumer:
    """A consumer, once there is a broker."""
    while True:
        try:
            return KafkaConsumer(
                topic,
                bootstrap_servers=address,
                group_id=None,
                auto_offset_reset="earliest",
                metadata_max_age_ms=200,
                fetch_max_wait_ms=20,
                consumer_timeout_ms=3_600_000,
            )
        except KafkaError:
            time.sleep(0.1)


def main() -> None:
    """Reads until it is killed."""
    consumer = follow(sys.argv[1], sys.argv[2])
    print(json.dumps({"ready": True}), flush=True)
    for record in consumer:
        headers = {name: value.decode() for name, value in record.headers}
        line = {
            "id": int(headers["id"]),
            "topic": headers.get("topic", record.topic),
            "key": headers.get("key"),
            "body": base64.b64encode(record.value or b"").decode(),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
