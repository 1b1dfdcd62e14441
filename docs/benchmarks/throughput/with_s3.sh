#!/usr/bin/env bash
# Runs a command beside a real S3 server (Ceph's gateway on this machine) that has an empty bucket `bench`.
#   docs/benchmarks/throughput/with_s3.sh PYTHON ARGUMENTS...
# PYTHON is the interpreter of an environment with flowscore in it. Needs root, for the server's Debian packages.
set -euo pipefail
python=$1
shift
root=$(cd "$(dirname "$0")/../../.." && pwd)
folder=$(mktemp -d)
rmdir "$folder"
port=$((20000 + RANDOM % 10000))
trap 'bash "$root/tests/s3/ceph.sh" down "$folder"' EXIT
bash "$root/tests/s3/ceph.sh" up "$folder" "$port" $$ >/dev/null
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testtest AWS_DEFAULT_REGION=us-east-1
"$python" -c 'import botocore.session as s; s.get_session().create_client("s3").create_bucket(Bucket="bench")'
cd "$root"
PYTHONPATH=. "$python" "$@"
