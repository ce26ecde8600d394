# The postgres image runs this after 1-roles.sql when it creates the database. Creates the login users, with the passwords
# from make-credentials.sh.
# shellcheck shell=bash
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set owner_password="$(cat /run/credentials/owner-password)" \
    --set writer_password="$(cat /run/credentials/writer-password)" <<'SQL'
CREATE ROLE warehouse_admin LOGIN PASSWORD :'owner_password' IN ROLE pipeline_owner;
ALTER ROLE warehouse_admin SET role = pipeline_owner;
CREATE ROLE event_writer LOGIN PASSWORD :'writer_password' IN ROLE pipeline_writer;
SQL
