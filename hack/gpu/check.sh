#!/usr/bin/env bash
# The GPU check on a bare machine that has torch and no network, run in the repository's root:
#   hack/gpu/check.sh wheels          here, once: fetches into .whl what that machine lacks (3.4 MB)
#   hack/gpu/check.sh                 there, beside that .whl: about 7.5 minutes; results in $OUT/check.json
#   ONLY=product,packing BUDGET=120 hack/gpu/check.sh    some sections only
set -uo pipefail
LACKS=(pydantic==2.14.4 pydantic_core==2.50.5 annotated-types==0.8.0 typing_inspection==0.4.5 typing_extensions==4.16.0
    tzdata==2026.6 kronos-finance==0.1.5)
if [ "${1:-}" = wheels ]; then
    exec python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .whl "${LACKS[@]}"
fi
site=$(mktemp -d)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .whl/*.whl || exit
# The trainer asks for its own version when it writes result.json.
mkdir -p "$site/kronos_operator-0.1.0.dist-info"
printf 'Metadata-Version: 2.1\nName: kronos-operator\nVersion: 0.1.0\n' > "$site/kronos_operator-0.1.0.dist-info/METADATA"
export PYTHONPATH="$PWD/trainer:$PWD:$site" PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR="$site/inductor" CUBLAS_WORKSPACE_CONFIG=:4096:8
set -o pipefail
python3 "$(dirname "$0")/check.py" --budget "${BUDGET:-450}" ${ONLY:+--only "$ONLY"} --out "${OUT:-.}" 2>&1 | tee "${OUT:-.}/check.log"
