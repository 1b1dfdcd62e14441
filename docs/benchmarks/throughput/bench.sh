#!/usr/bin/env bash
# The whole scoring run from a real S3 server to the tables, as `flowscore bench` measures it.
#   docs/benchmarks/throughput/bench.sh PYTHON [FLAGS OF flowscore bench]
# PYTHON is the interpreter of an environment with flowscore in it. Needs root, for the server's Debian packages.
set -euo pipefail
python=$1
shift
exec bash "$(dirname "$0")/with_s3.sh" "$python" -m jobs.bench --store s3://bench/run "$@"
