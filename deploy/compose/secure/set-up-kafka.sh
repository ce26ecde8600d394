#!/usr/bin/env bash
# Creates the logins, the topic and the ACLs with the least privileges (docs/security.md). Safe to repeat.
set -euo pipefail

kafka() { # TOOL ARGUMENT...
    local tool=/opt/kafka/bin/$1.sh
    shift
    "$tool" --bootstrap-server kafka:19093 --command-config /run/credentials/admin.properties "$@"
}

for login in event-generator kafka-consumer; do
    kafka kafka-configs --alter --entity-type users --entity-name "$login" \
        --add-config "SCRAM-SHA-512=[password=$(cat "/run/credentials/$login-password")]"
done
kafka kafka-topics --create --if-not-exists --topic product-events --partitions 6
kafka kafka-acls --add --allow-principal User:event-generator --operation Write --operation DescribeConfigs --topic product-events
kafka kafka-acls --add --allow-principal User:kafka-consumer --operation Read --topic product-events
kafka kafka-acls --add --allow-principal User:kafka-consumer --operation Read --group kafka-consumer
