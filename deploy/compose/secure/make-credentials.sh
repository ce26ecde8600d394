#!/usr/bin/env bash
# Creates a certificate authority, the servers' certificates and all passwords at the first start. The volume of each
# container receives only its own credentials.
set -euo pipefail
umask 077

cd /credentials
if [ -e authority/complete ]; then
    exit 0
fi

# User IDs in the images
kafka=1000 postgres=999 s3=1000 program=65532
days=825

password() { openssl rand -hex 24; }

authority() {
    openssl req -x509 -newkey rsa:3072 -nodes -days "$days" -subj "/CN=event-pipeline authority" \
        -keyout authority/ca.key -out authority/ca.pem 2>/dev/null
}

certificate() { # NAME FOLDER
    local names="DNS:$1,DNS:localhost,IP:127.0.0.1"
    openssl req -newkey rsa:3072 -nodes -subj "/CN=$1" -keyout "$2/server.key" -out "$2/request" 2>/dev/null
    openssl x509 -req -in "$2/request" -CA authority/ca.pem -CAkey authority/ca.key -CAcreateserial -days "$days" \
        -extfile <(echo "subjectAltName=$names") -out "$2/server.crt" 2>/dev/null
    rm "$2/request"
}

kafka_login() { # USER PASSWORD
    cat <<END
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.username=$1
sasl.password=$2
ssl.ca.location=/run/credentials/ca.pem
END
}

aws_login() { # KEY SECRET
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$1" "$2"
}

authority
certificate kafka kafka
certificate postgres postgres
certificate s3 s3
for folder in kafka postgres owner consumer generator; do
    cp authority/ca.pem "$folder/"
done

# Kafka reads key and certificates from one file.
cat kafka/server.key kafka/server.crt authority/ca.pem >kafka/kafka.pem
rm kafka/server.key kafka/server.crt
cat >kafka/admin.properties <<'END'
security.protocol=SSL
ssl.keystore.type=PEM
ssl.keystore.location=/run/credentials/kafka.pem
ssl.truststore.type=PEM
ssl.truststore.location=/run/credentials/ca.pem
END
generator_password=$(password)
consumer_password=$(password)
echo "$generator_password" >kafka/event-generator-password
echo "$consumer_password" >kafka/kafka-consumer-password
kafka_login event-generator "$generator_password" >generator/kafka.properties
kafka_login kafka-consumer "$consumer_password" >consumer/kafka.properties

owner_password=$(password)
writer_password=$(password)
password >postgres/admin-password
echo "$owner_password" >postgres/owner-password
echo "$writer_password" >postgres/writer-password
echo "postgres:5432:warehouse:warehouse_admin:$owner_password" >owner/pgpass
echo "postgres:5432:warehouse:event_writer:$writer_password" >consumer/pgpass

generator_secret=$(password)
consumer_secret=$(password)
aws_login event-generator "$generator_secret" >generator/aws
aws_login kafka-consumer "$consumer_secret" >consumer/aws
bucket=product-events-lake
cat >s3/s3.json <<END
{
  "identities": [
    {
      "name": "event-generator",
      "credentials": [{ "accessKey": "event-generator", "secretKey": "$generator_secret" }],
      "actions": ["Read:$bucket", "Write:$bucket", "List:$bucket"]
    },
    {
      "name": "kafka-consumer",
      "credentials": [{ "accessKey": "kafka-consumer", "secretKey": "$consumer_secret" }],
      "actions": ["Read:$bucket", "List:$bucket"]
    }
  ]
}
END

chown -R "$kafka" kafka
chown -R "$postgres" postgres
chown -R "$s3" s3
chown -R "$program" owner consumer generator
touch authority/complete
